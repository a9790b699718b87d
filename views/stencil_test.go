package views

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/a-h/templ"
)

// offer is the signed-out page with the values that differ for each visitor:
// challenge, user handle, account name.
func offer(values []string) templ.Component {
	options := strings.NewReplacer("Y2hhbGxlbmdl", values[0], "aGFuZGxl", values[1], "cedar-otter-42", values[2]).Replace(options)
	return Page(Auth{Ceremony: Ceremony{Options: options, Known: true}})
}

func TestStencil(t *testing.T) {
	s, err := NewStencil(offer, 2, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	values := []string{"AAABk0aG3sB2Qm9vYmFyYmF6cXV4", "kq2Jm0cA8rT1vY7", "brisk-heron-17"}
	want := "before" + rendered(t, offer(values))
	if got := string(s.AppendTo([]byte("before"), values...)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	room := make([]byte, 0, 8<<10)
	if n := testing.AllocsPerRun(100, func() { s.AppendTo(room, values...) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestStencilRefuses(t *testing.T) {
	own := errors.New("own")
	tests := map[string]struct {
		page  func([]string) templ.Component
		times []int
		want  error
	}{
		"too few":        {offer, []int{3, 1, 2}, ErrStencil},
		"too many":       {offer, []int{1, 1, 2}, ErrStencil},
		"absent":         {offer, []int{2, 1, 2, 1}, ErrStencil},
		"changed":        {func(v []string) templ.Component { return static(v[0]+strings.Repeat("!", len(v[0])), nil) }, []int{1}, ErrStencil},
		"page's own":     {func([]string) templ.Component { return static("", own) }, nil, own},
		"no value, fine": {func([]string) templ.Component { return static("x", nil) }, nil, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := NewStencil(test.page, test.times...); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}

	s, err := NewStencil(offer, 2, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, values := range [][]string{{"a", "b"}, {"a", "b", "c", "d"}, {"a", `b"`, "c"}, {"a", "b", "<"}, {"é", "b", "c"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("AppendTo(%q) did not panic", values)
				}
			}()
			s.AppendTo(nil, values...)
		}()
	}
}

func FuzzStencil(f *testing.F) {
	s, err := NewStencil(offer, 2, 1, 2)
	if err != nil {
		f.Fatal(err)
	}
	safe := regexp.MustCompile(`^[A-Za-z0-9_-]*$`)
	f.Add("AAABk0aG3sB2Qm9v", "kq2Jm0cA8rT1vY7", "brisk-heron-17")
	f.Add("", "", "")
	f.Add("hole-000-", "hole-002-", "-")
	f.Add("Y2hhbGxlbmdl", "x", "cedar-otter-42")
	f.Add("a", "<", "c")
	f.Fuzz(func(t *testing.T, challenge, handle, name string) {
		values := []string{challenge, handle, name}
		if !safe.MatchString(challenge + handle + name) {
			defer func() {
				if recover() == nil {
					t.Errorf("AppendTo(%q) did not panic", values)
				}
			}()
			s.AppendTo(nil, values...)
			return
		}
		if got, want := string(s.AppendTo(nil, values...)), rendered(t, offer(values)); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	})
}

func BenchmarkStencil(b *testing.B) {
	s, err := NewStencil(offer, 2, 1, 2)
	if err != nil {
		b.Fatal(err)
	}
	room := make([]byte, 0, 8<<10)
	b.ReportAllocs()
	for b.Loop() {
		s.AppendTo(room, "AAABk0aG3sB2Qm9vYmFyYmF6cXV4AAABk0aG3sB2Qm9vYmFyYmF6cX", "kq2Jm0cA8rT1vY7kq2Jm0cA8rT1vY7kq2Jm0cA8rT1v", "brisk-heron-17")
	}
}
