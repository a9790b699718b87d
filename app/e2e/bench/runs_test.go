package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"bio/agent"
	"bio/agent/lines"
	"bio/app/runs"
)

func TestTags(t *testing.T) {
	page := `<p class="a">one<b data-run="x1" data-status="running">` + strings.Repeat("long ", 20000) + `</b> end`
	var got []string
	s := tags(strings.NewReader(page))
	for s.Scan() {
		got = append(got, s.Text())
	}
	if s.Err() != nil || len(got) != 4 || strings.Join(got, ">") != page {
		t.Fatalf("%d pieces, %v", len(got), s.Err())
	}
	for name, want := range map[string]string{"data-run": "x1", "data-status": "running", "run": "", "class": ""} {
		if got := attribute([]byte(got[1]), name); got != want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func FuzzTags(f *testing.F) {
	f.Add([]byte(`<p data-final="done">event 1 of</p>`))
	f.Add([]byte(`>> data-final="`))
	f.Fuzz(func(t *testing.T, page []byte) {
		var got []byte
		s := tags(bytes.NewReader(page))
		for s.Scan() {
			got = append(append(got, s.Bytes()...), '>')
			attribute(s.Bytes(), "data-final")
			numbered(s.Bytes())
		}
		if s.Err() == nil && !bytes.Equal(got, page) && string(got) != string(page)+">" {
			t.Errorf("%q became %q", page, got)
		}
	})
}

func TestNumbered(t *testing.T) {
	event := lines.Parse([]byte(strings.TrimSuffix(paragraph(17), "\n")))
	if !strings.HasSuffix(event.Text, "\n\n") {
		t.Errorf("no paragraph: %q", event.Text)
	}
	for text, want := range map[string]int{event.Text: 17, "event 0 of": 0, "event 17": -1, "event x of": -1, "an event 1 of": -1, "": -1} {
		if n, ok := numbered([]byte(text)); ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: got %d, %v", text, n, ok)
		}
	}
}

// served is a server that answers with the handler, as a process that is asked.
func served(t *testing.T, handler http.Handler) *process {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return &process{addr: s.Listener.Addr().String(), origin: s.URL}
}

func TestSpeaker(t *testing.T) {
	s := newSpeaker(1)
	p := served(t, s)
	ask := func(prompt string) (*http.Response, error) {
		text, err := json.Marshal(lines.Request{Prompt: prompt})
		if err != nil {
			t.Fatal(err)
		}
		return http.Post(p.origin, "application/json", bytes.NewReader(text))
	}
	for _, prompt := range []string{"", "x", "-1", "50"} {
		answer, err := ask(prompt)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %d", prompt, answer.StatusCode)
		}
	}
	answer, err := ask("0")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if s.sent[0][0].Load() != 0 {
		t.Error("spoke too early")
	}
	close(s.begun)
	close(s.over)
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != paragraph(0) || s.sent[0][0].Load() == 0 {
		t.Errorf("said %q, %v", body, err)
	}
}

func TestViewer(t *testing.T) {
	const head, final = `<main><div role="log">`, `<p data-final="done">`
	events := []string{"<p>event 0 of two</p>", "<p>event 1 of two</p>"}
	for page, want := range map[string]struct{ attached, whole, got bool }{
		head + events[0] + events[1] + final:                 {true, true, true},
		head + events[0] + events[1]:                         {true, false, true},
		head + events[0] + events[1] + `<p data-final="cut"`: {true, false, true},
		head + events[0] + final:                             {true, false, false},
		head + events[1] + final:                             {true, false, false},
		head + events[0] + events[0] + events[1] + final:     {true, false, false},
		head + events[0] + events[1] + events[0] + final:     {true, false, true},
		"<main>" + events[0] + events[1] + final:             {},
	} {
		p := served(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) }))
		v, err := attach(p, 0, person{&visitor{origin: p.origin}, "session"})
		if (err == nil) != want.attached {
			t.Errorf("%s: attached: %v", page, err)
		}
		if err != nil {
			continue
		}
		got := false
		if err := v.watch(newSpeaker(2), func() { got = true }); (err == nil) != want.whole || got != want.got {
			t.Errorf("%s: got all: %v, %v", page, got, err)
		}
		v.Close()
	}
}

func TestShown(t *testing.T) {
	page := `<section data-run="r1" data-status="running"><p data-final="interrupted">`
	var stopped []string
	p := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/run/stop" {
			stopped = append(stopped, r.FormValue("run"))
			w.WriteHeader(http.StatusSeeOther)
			return
		}
		io.WriteString(w, page)
	}))
	c, err := dial(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := &hooked{process: p, endless: true, conn: c}
	by := person{&visitor{origin: p.origin}, "session"}
	before := func() error { return nil }
	if took, err := h.shown(by.page(), by, "interrupted", before); err != nil || took <= 0 {
		t.Errorf("%v, %v", took, err)
	}
	if !slices.Equal(stopped, []string{"r1"}) {
		t.Errorf("stopped %q", stopped)
	}
	if _, err := h.shown(by.page(), by, "done", before); err == nil {
		t.Error("another end than the one wanted is none")
	}
	if _, err := h.shown(by.page(), by, "interrupted", func() error { return io.EOF }); err != io.EOF {
		t.Errorf("got %v", err)
	}
}

func TestMuch(t *testing.T) {
	if n := len(much()); n < 140_000 || n > 200_000 {
		t.Errorf("%d bytes", n)
	}
}

func TestDifferences(t *testing.T) {
	if got := differences([]time.Duration{5, 1}, []time.Duration{3, 4}); !slices.Equal(got, []time.Duration{2, -3}) {
		t.Errorf("got %v", got)
	}
}

func TestWorkshop(t *testing.T) {
	const origin = "http://localhost:8080"
	in, err := openInside(t.Context(), t.TempDir(), origin)
	if err != nil {
		t.Fatal(err)
	}
	defer in.db.Close()
	v, err := register(in, origin)
	if err != nil {
		t.Fatal(err)
	}
	w := openWorkshop(t.Context(), in, v)
	defer w.Close(context.Background())
	for _, event := range []agent.Event{
		{Text: "words, "}, {Kind: agent.Status, Text: "busy"}, {Kind: agent.Data, Data: []byte("[1]")}, {Kind: agent.View, View: templ.Raw("<p>")},
	} {
		for _, viewer := range []func(*runs.Run) error{nil, w.followed, w.rendered} {
			for _, n := range []int{0, 300} {
				if took, err := w.run(event, n, viewer); err != nil || took <= 0 {
					t.Errorf("%d of %s: %v, %v", n, event.Kind, took, err)
				}
			}
		}
		run := w.Last(t.Context(), w.user.ID)[0]
		if err := w.whole(run, event, 301); err == nil {
			t.Errorf("%s: nobody missed an event that was never said", event.Kind)
		}
	}
	if _, err := w.run(agent.Event{Kind: agent.Data}, 1, nil); err == nil {
		t.Error("a run that failed is none")
	}
}
