package server_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// patience is a response writer that can wait: it notes when it is told how long.
type patience struct {
	*httptest.ResponseRecorder
	moves  []string // "read", "write": its deadline moved; "piece"
	latest map[string]time.Time
}

func (w *patience) SetReadDeadline(t time.Time) error  { return w.move("read", t) }
func (w *patience) SetWriteDeadline(t time.Time) error { return w.move("write", t) }

func (w *patience) move(which string, t time.Time) error {
	if !t.After(time.Now()) || t.Before(w.latest[which]) {
		return fmt.Errorf("the %s deadline moved from %v to %v", which, w.latest[which], t)
	}
	w.latest[which] = t
	w.moves = append(w.moves, which)
	return nil
}

func (w *patience) Write(p []byte) (int, error) {
	w.moves = append(w.moves, "piece")
	return w.ResponseRecorder.Write(p)
}

// piped is an answer that is read while it is written.
type piped struct {
	http.ResponseWriter
	to *io.PipeWriter
}

func (w piped) Write(p []byte) (int, error) { return w.to.Write(p) }
func (w piped) Flush()                      {}

// reads sends a request, and reads the answer until it has the words. rest reads it
// to its end, and returns all of it.
func (s *site) reads(r *http.Request, words string) (rest func() string) {
	s.t.Helper()
	from, to := io.Pipe()
	go func() {
		s.ServeHTTP(piped{httptest.NewRecorder(), to}, r)
		to.Close()
	}()
	var page strings.Builder
	for piece := make([]byte, 4<<10); !strings.Contains(page.String(), words); {
		n, err := from.Read(piece)
		if page.Write(piece[:n]); err != nil {
			s.t.Fatalf("%v after %s", err, page.String())
		}
	}
	return func() string {
		s.t.Helper()
		if _, err := io.Copy(&page, from); err != nil {
			s.t.Fatal(err)
		}
		return page.String()
	}
}

// A page reads for as long as the session does that opened it, and not a word more.
func TestSessionEndsWhileReading(t *testing.T) {
	for name, end := range map[string]func(*site, *browser) error{
		"signed out": func(_ *site, b *browser) error {
			if p := b.clone().post("/sign-out", nil); p.status != http.StatusSeeOther {
				return fmt.Errorf("sign-out: %d", p.status)
			}
			return nil
		},
		"revoked beside the server": func(s *site, b *browser) error {
			_, n, err := s.db.RevokeSessions(t.Context(), b.get("/account").account, "test")
			s.clock.Advance(2 * time.Second)
			if n == 0 {
				return errors.New("no session was revoked")
			}
			return err
		},
		"at its cap": func(s *site, _ *browser) error {
			s.clock.Advance(s.settings.SessionMax)
			return nil
		},
		"not at all": nil,
	} {
		t.Run(name, func(t *testing.T) {
			hook := slow{make(chan struct{}, 1)}
			s := environment{agent: hook}.site(t)
			b := s.browser()
			b.enrol(s.device(), "{}")
			b.post("/run", nil)
			rest := s.reads(b.request(http.MethodGet, "/", nil), "beginning")
			if end != nil {
				if err := end(s, b); err != nil {
					t.Fatal(err)
				}
			}
			hook.release <- struct{}{}
			got := rest()
			s.runsWritten()
			if strings.Contains(got, "beginningending") != (end == nil) || strings.Contains(got, "Reload it to read on.") != (end != nil) || !strings.Contains(got, "</html>") {
				t.Errorf("the page goes on with %s", got[strings.Index(got, "beginning"):])
			}
			if diff := cmp.Diff([]string{"agent done"}, s.kept()); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
}

// A page streams for as long as something comes: the server's own deadlines move
// before each piece. (That they are what ends a connection is net/http's to test.)
func TestStreamOutlastsTimeouts(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	b.register()
	w := &patience{ResponseRecorder: httptest.NewRecorder(), latest: map[string]time.Time{}}
	s.ServeHTTP(w, b.request(http.MethodGet, "/", nil))
	pieces := 0
	for move := range slices.Chunk(w.moves, 3) {
		pieces++
		if !slices.Equal(move, []string{"read", "write", "piece"}) {
			t.Fatalf("piece %d: %q", pieces, w.moves)
		}
	}
	if pieces < 2 || !strings.Contains(w.Body.String(), `data-final="done"`) || !strings.HasSuffix(strings.TrimSpace(w.Body.String()), "</html>") || !w.Flushed {
		t.Errorf("%d pieces, flushed %t: %s", pieces, w.Flushed, w.Body)
	}
}
