package views

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/a-h/templ"
)

// ErrStencil says that a page cannot be cut where its values stand.
var ErrStencil = errors.New("views: stencil")

// Stencil is a page that was rendered once and cut where it changes, so that to
// serve it is to copy bytes. It is safe for concurrent use.
type Stencil struct {
	text  []string // the page around the holes: one more than holes
	holes []int    // which value stands between text[i] and text[i+1]
	count int      // how many values there are
}

// NewStencil cuts page, whose i-th value must occur times[i] times. An error
// wraps ErrStencil, or is the page's own.
func NewStencil(page func(values []string) templ.Component, times ...int) (*Stencil, error) {
	marks := make([]string, len(times))
	for i := range marks {
		marks[i] = fmt.Sprintf("hole-%03d-", i)
	}
	rest, err := render(page(slices.Clone(marks)))
	if err != nil {
		return nil, err
	}
	s := &Stencil{count: len(times)}
	left := slices.Clone(times)
	for {
		at, which := len(rest), -1
		for i, mark := range marks {
			if j := strings.Index(rest, mark); j >= 0 && j < at {
				at, which = j, i
			}
		}
		s.text = append(s.text, rest[:at])
		if which < 0 {
			break
		}
		s.holes = append(s.holes, which)
		left[which]--
		rest = rest[at+len(marks[which]):]
	}
	for i, n := range left {
		if n != 0 {
			return nil, fmt.Errorf("%w: value %d occurs %d times, not %d", ErrStencil, i, times[i]-n, times[i])
		}
	}

	// Values of other lengths show whether the page depends on them elsewhere.
	for i := range marks {
		marks[i] = strings.Repeat("aZ0_-", i+1)
	}
	whole, err := render(page(slices.Clone(marks)))
	if err != nil {
		return nil, err
	}
	if whole != string(s.AppendTo(nil, marks...)) {
		return nil, fmt.Errorf("%w: the page changes outside its values", ErrStencil)
	}
	return s, nil
}

func render(c templ.Component) (string, error) {
	var b bytes.Buffer
	err := c.Render(context.Background(), &b)
	return b.String(), err
}

// AppendTo appends the page with these values to dst. Values hold only letters,
// digits, "-" and "_", which mean nothing to HTML or JSON: base64url and account
// names. It panics on any other byte, and when the number of values is wrong.
func (s *Stencil) AppendTo(dst []byte, values ...string) []byte {
	if len(values) != s.count {
		panic(fmt.Sprintf("views: stencil has %d values, not %d", s.count, len(values)))
	}
	for _, value := range values {
		for i := range len(value) {
			if !inert[value[i]] {
				panic("views: stencil value with a byte that could mean something in HTML or JSON")
			}
		}
	}
	for i, which := range s.holes {
		dst = append(dst, s.text[i]...)
		dst = append(dst, values[which]...)
	}
	return append(dst, s.text[len(s.holes)]...)
}

// inert are the bytes of base64url.
var inert = func() (set [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		set[c] = true
	}
	return set
}()
