package agent

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
)

// MaxView is how many bytes of HTML a View event may have.
const MaxView = 1 << 20

// Render returns the HTML of a View event: all of it, or an error. A panic of
// the component is a [*PanicError]; an event that is none of View, or one of more
// than [MaxView] bytes, is an [ErrEvent]. Invalid UTF-8 is replaced.
func Render(ctx context.Context, e Event) ([]byte, error) {
	if e.Kind != View {
		return nil, fmt.Errorf("%w: a %s has nothing to render", ErrEvent, e.Kind)
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	var w whole
	if err := contain(func() error { return e.View.Render(ctx, &w) }); err != nil {
		return nil, err
	}
	if w.over { // whatever the component made of the error
		return nil, errMaxView
	}
	return bytes.ToValidUTF8(w.html.Bytes(), []byte("\uFFFD")), nil
}

var errMaxView = fmt.Errorf("%w: a view of more than %d bytes", ErrEvent, MaxView)

// whole takes what fits.
type whole struct {
	html bytes.Buffer // not embedded, so that nothing writes past Write
	over bool
}

func (w *whole) Write(p []byte) (int, error) {
	if w.over = w.over || w.html.Len()+len(p) > MaxView; w.over {
		return 0, errMaxView
	}
	return w.html.Write(p)
}

// contain calls f and returns its panic as an error.
func contain(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return f()
}
