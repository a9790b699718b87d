package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"bio/agent"
	"bio/agent/lines"
)

func TestOutcomes(t *testing.T) {
	endless := agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
		return func(yield func(agent.Event, error) bool) {
			for yield(agent.Event{Text: "ab"}, nil) {
			}
		}
	})
	statuses := agent.Func(func(context.Context, *agent.Input) iter.Seq2[agent.Event, error] {
		return func(yield func(agent.Event, error) bool) {
			for yield(status("…"), nil) {
			}
		}
	})
	huge := strings.Repeat("0123456789abcdef", 4<<10)
	for name, test := range map[string]struct {
		agent  agent.Agent
		change func(*Options)
		want   string
		log    string // of the error
		view   string // the error of a view in the log
	}{
		"done":          {agent: says(nil, "a", "b"), want: "text:ab done"},
		"nothing":       {agent: says(nil), want: "done without a word"},
		"only a status": {agent: emits(status("…")), want: "status:… done without a word"},
		"kinds": {
			agent: emits(status("…"), data(`{"a":1}`), views(component{html: "<b>v</b>"}), agent.Event{Kind: agent.Approval, Text: "?"}),
			want:  `status:… data:{"a":1} view:<b>v</b> approval:? done`,
		},
		"what does not belong to its kind": {
			agent: emits(agent.Event{Text: "a", Data: json.RawMessage("{"), View: component{html: "x"}}, agent.Event{Kind: agent.Data, Data: json.RawMessage("1"), View: component{html: "x"}}),
			want:  "text:a data:1 done",
		},
		"error":           {agent: says(errors.New("broken"), "a"), want: "text:a failed", log: "broken"},
		"output too long": {agent: says(fmt.Errorf("program: %w", lines.ErrTooLong), "a"), want: "text:a cut", log: "program: " + lines.ErrTooLong.Error()},
		"panic":           {agent: agent.Reply(func(context.Context, *agent.Input) (string, error) { panic("broken") }), want: "failed", log: "agent: panic: broken"},
		"goroutine ended": {agent: agent.Reply(func(context.Context, *agent.Input) (string, error) { runtime.Goexit(); return "", nil }), want: "failed", log: errExit.Error()},
		"invalid event":   {agent: emits(agent.Event{Text: "a"}, agent.Event{Kind: agent.View}), want: "text:a failed", log: "agent: invalid event: view without a component"},
		"invalid UTF-8":   {agent: emits(agent.Event{Text: "a\xff\xfeb"}, data("\"\xff\""), views(component{html: "c\xff"})), want: "text:a\uFFFDb data:\"\uFFFD\" view:c\uFFFD done"},
		"deadline":        {agent: patient, change: func(o *Options) { o.Timeout = quiet / 2 }, want: "text:a failed", log: errDeadline.Error()},
		"too many events": {
			agent: statuses, change: func(o *Options) { o.MaxEvents = 3 },
			want: "status:… status:… status:… cut", log: errCut.Error(),
		},
		"pieces of text are few events": {
			agent: says(nil, strings.Split(strings.Repeat("ab,", 500), ",")...), change: func(o *Options) { o.MaxEvents = 4 },
			want: "text:" + strings.Repeat("ab", 500) + " done",
		},
		"too many bytes": {
			agent: endless, change: func(o *Options) { o.MaxBytes = 5 },
			want: "text:ababa cut", log: errCut.Error(),
		},
		"just enough": {agent: says(nil, "ab", "cd"), change: func(o *Options) { o.MaxBytes, o.MaxEvents = 4, 1 }, want: "text:abcd done"},
		"too much at once": {
			agent: says(nil, strings.Repeat("é", 50<<20)), change: func(o *Options) { o.MaxBytes = 5 },
			want: "text:éé cut", log: errCut.Error(),
		},
		"100 MiB": {
			agent: says(nil, slices.Repeat([]string{huge}, 1600)...), change: func(o *Options) { o.MaxBytes = 3 << 16 },
			want: "text:" + huge + huge + huge + " cut", log: errCut.Error(),
		},
		"too much data": {
			agent: emits(agent.Event{Text: "a"}, data(`"1234"`)), change: func(o *Options) { o.MaxBytes = 6 },
			want: "text:a cut", log: errCut.Error(),
		},
		"data that grows when mended": {
			agent: emits(data("\"\xffa\xffa\"")), change: func(o *Options) { o.MaxBytes = 6 },
			want: "cut", log: errCut.Error(),
		},
		"too much of a view": {
			agent: emits(views(component{html: "<b></b>"}), views(component{html: "<b></b>"})), change: func(o *Options) { o.MaxBytes = 13 },
			want: "view:<b></b> cut", log: errCut.Error(),
		},
		"a status is not cut in two": {
			agent: emits(status("abcdef")), change: func(o *Options) { o.MaxBytes = 3 },
			want: "cut", log: errCut.Error(),
		},
		"a view that fails": {
			agent: emits(views(component{html: "<p>secret", err: io.ErrShortWrite}), agent.Event{Text: "a"}),
			want:  "view:<p>This part could not be shown.</p> text:a done", view: io.ErrShortWrite.Error(),
		},
		"a view that panics": {
			agent: emits(views(component{html: "<p>secret", err: io.ErrShortWrite, panic: true})),
			want:  "view:<p>This part could not be shown.</p> done", view: "agent: panic: short write",
		},
		"a view without end": {
			agent: emits(views(component{html: strings.Repeat("a", agent.MaxView+1)})),
			want:  "view:<p>This part could not be shown.</p> done", view: "agent: invalid event: a view of more than 1048576 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(test.agent, func(o *Options) {
					if test.change != nil {
						test.change(o)
					}
				})
				run := h.Start(person("p"), Ask{Prompt: "a secret prompt"})[0].Run
				if got := watch(t.Context(), run); got != test.want {
					t.Errorf("got  %q\nwant %q", got, test.want)
				}
				if got := watch(t.Context(), run); got != test.want {
					t.Errorf("replayed %q\nwant %q", got, test.want)
				}
				h.drain(t)

				lines := strings.Split(strings.TrimSpace(h.log.String()), "\n")
				if test.view != "" {
					first := logged(t, lines[0])
					if first.Level != "WARN" || first.Run != run.ID() || first.Error != test.view || (first.Stack != "") != (name == "a view that panics") {
						t.Errorf("logged %s", lines[0])
					}
					lines = lines[1:]
				}
				if len(lines) != 1 {
					t.Fatalf("not one line:\n%s", h.log.String())
				}
				line := logged(t, lines[0])
				status := run.Status()
				level := "WARN"
				if status == Done {
					level = "INFO"
				}
				if line.Level != level || line.Agent != "brief" || line.Run != run.ID() || line.User != "p" || line.Status != status || line.Error != test.log || (line.Stack != "") != (name == "panic") {
					t.Errorf("logged %s", lines[0])
				}
				began := Life{ID: run.ID(), User: "p", Agent: "brief", Started: true, Status: Running}
				ended := began
				ended.Status, ended.Took = status, time.Duration(line.Ms*1e6)
				if want := []Life{began, ended}; !slices.Equal(h.told, want) {
					t.Errorf("told %+v, want %+v", h.told, want)
				}
				if strings.Contains(h.log.String(), "secret") {
					t.Error("the log has the prompt, or what was said")
				}

				kept := h.shelf.of("p", "brief")
				finalStatus, sentence := run.Final()
				if kept.ID != run.ID() || kept.Prompt != "a secret prompt" || kept.Status != finalStatus || kept.Sentence != sentence || kept.EndedAt.IsZero() {
					t.Errorf("kept %+v", kept.Record)
				}
				if got := strings.TrimPrefix(words(kept.events)+" "+ending(run), " "); got != test.want {
					t.Errorf("kept %q", got)
				}
				// Another instance shows the same.
				elsewhere := openAt(h.shelf, says(nil))
				if got := watch(t.Context(), elsewhere.lastOf(t, "p")); got != test.want {
					t.Errorf("elsewhere %q", got)
				}
				elsewhere.drain(t)
			})
		})
	}
}

type logLine struct {
	Level, Msg, Agent, Run, Status, User, Error, Stack string
	Ms                                                 float64
}

func logged(t *testing.T, text string) (line logLine) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return line
}

// An agent that is cut and does not return ends for its viewers at once.
func TestDeafToTheCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := open(agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			for emit(status("a")) == nil {
			}
			if ctx.Err() == nil {
				t.Error("the context goes on after the cut")
			}
			<-release
			return nil
		}), func(o *Options) { o.MaxEvents = 1 })
		start := time.Now()
		if got := watch(t.Context(), h.begin("p")); got != "status:a cut" || time.Since(start) != 0 {
			t.Errorf("got %q after %v", got, time.Since(start))
		}
		close(release)
		h.drain(t)
	})
}

func TestEventsAreTheRunsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(agent.Emit(func(_ context.Context, _ *agent.Input, emit func(agent.Event) error) error {
			buffer := json.RawMessage(`1`)
			err := emit(agent.Event{Kind: agent.Data, Data: buffer})
			buffer[0] = '2'
			return err
		}))
		run := h.begin("p")
		h.drain(t)
		if got := watch(t.Context(), run); got != "data:1 done" {
			t.Errorf("got %q", got)
		}
	})
}

func FuzzFit(f *testing.F) {
	for _, seed := range []string{"", "abc", "é€😀", "\xff\xfe", "a\xffa\xff", "\xe2\x82", strings.Repeat("\xff", 50), strings.Repeat("a\xff", 9)} {
		for _, room := range []uint8{0, 1, 2, 3, 4, 9, 200} {
			f.Add(seed, room)
		}
	}
	f.Fuzz(func(t *testing.T, text string, room uint8) {
		got, whole := fit(text, int(room))
		valid := strings.ToValidUTF8(text, "\uFFFD")
		if len(got) > int(room) || !utf8.ValidString(got) {
			t.Errorf("%q does not fit in %d", got, room)
		}
		if whole && got != valid || !whole && len(valid) <= int(room) && len(text) <= int(room)+2*utf8.UTFMax {
			t.Errorf("%q in %d: %q, whole %v", text, room, got, whole)
		}
		if !strings.HasPrefix(valid, got) {
			t.Errorf("%q is not how %q begins", got, valid)
		}
	})
}
