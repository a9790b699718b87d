package chat

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"bio/agent"
	"bio/agent/agenttest"
	"bio/agent/lines"
)

func TestNew(t *testing.T) {
	good := Options{BaseURL: "http://localhost:11434/v1", Model: "m"}
	for name, test := range map[string]struct {
		change func(*Options)
		want   string // of the error
	}{
		"good":                  {func(*Options) {}, ""},
		"https and a key":       {func(o *Options) { o.BaseURL, o.Key = "https://api.example.com/v1/", "sk-0" }, ""},
		"no base URL":           {func(o *Options) { o.BaseURL = "" }, "http or https"},
		"no scheme":             {func(o *Options) { o.BaseURL = "localhost:11434/v1" }, "http or https"},
		"another scheme":        {func(o *Options) { o.BaseURL = "ftp://example.com" }, "http or https"},
		"no host":               {func(o *Options) { o.BaseURL = "http:///v1" }, "http or https"},
		"not a URL":             {func(o *Options) { o.BaseURL = "http://hunter2:x/\x7f" }, "http or https"},
		"a user in the URL":     {func(o *Options) { o.BaseURL = "http://me:hunter2@example.com" }, "more than a host and a path"},
		"a query in the URL":    {func(o *Options) { o.BaseURL = "http://example.com/?key=hunter2" }, "more than a host and a path"},
		"a fragment in the URL": {func(o *Options) { o.BaseURL = "http://example.com/#hunter2" }, "more than a host and a path"},
		"no model":              {func(o *Options) { o.Model = "" }, "no model"},
		"a line in the key":     {func(o *Options) { o.Key = "hunter2\n" }, "the key"},
		"letters in the key":    {func(o *Options) { o.Key = "hünter2" }, "the key"},
		"negative tokens":       {func(o *Options) { o.MaxTokens = -1 }, "tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			test.change(&o)
			a, err := New(o)
			switch {
			case test.want == "":
				if a == nil || err != nil {
					t.Errorf("got %v, %v", a, err)
				}
			case a != nil || !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "nter2"):
				t.Errorf("got %v, %v", a, err)
			}
		})
	}
}

// endpoint makes an agent that asks h.
func endpoint(t *testing.T, h http.HandlerFunc, change ...func(*Options)) *chat {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	o := Options{BaseURL: server.URL, Model: "m"}
	for _, f := range change {
		f(&o)
	}
	c, err := newChat(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.transport.CloseIdleConnections) // before the server waits for them
	return c
}

// says answers with one delta of that text.
func says(w io.Writer, text string) error {
	_, err := fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", text)
	return err
}

func ends(w io.Writer) {
	fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
}

// collect runs c and returns what it said and its error; each looks at its events.
func collect(ctx context.Context, c *chat, each func(agent.Event)) (text string, err error) {
	var out strings.Builder
	for event, err := range agent.Emit(c.run).Run(ctx, &agent.Input{RunID: "run-1"}) {
		if err != nil {
			return out.String(), err
		}
		if event.Kind == agent.Text {
			out.WriteString(event.Text)
		}
		if each != nil {
			each(event)
		}
	}
	return out.String(), nil
}

func TestHeaders(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, test := range map[string]struct {
		base, key, trace string
		path             string
		want             map[string]string
	}{
		"all": {"/v1", "sk-0", trace, "/v1/chat/completions", map[string]string{"Authorization": "Bearer sk-0", "Traceparent": trace,
			"Content-Type": "application/json", "Accept": "text/event-stream, application/json", "Accept-Encoding": ""}},
		"no key, no trace":  {"/", "", "", "/chat/completions", map[string]string{"Authorization": "", "Traceparent": ""}},
		"escapes in a path": {"/a%2Fb/", "", "", "/a%2Fb/chat/completions", nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || r.URL.EscapedPath() != test.path {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				for name, want := range test.want {
					if got := r.Header.Get(name); got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				ends(w)
			}, func(o *Options) { o.BaseURL, o.Key = o.BaseURL+test.base, test.key })
			agenttest.Run(t, agent.Emit(c.run), agent.Input{TraceParent: test.trace})
		})
	}
}

func TestStatus(t *testing.T) {
	const (
		lost = ": is the model there, and is the base URL whole, such as …/v1?"
		key  = ": is the key right, and may it use the model?"
	)
	for name, test := range map[string]struct {
		status int
		key    string
		body   string
		want   string // after "with status "
	}{
		"no content":  {204, "", "", "204"},
		"redirect":    {301, "", "hunter2", "301"},
		"bad request": {400, "", "hunter2", "400"},
		"teapot":      {418, "", "hunter2", "418"},
		"broken":      {500, "", "hunter2", "500"},
		"bad gateway": {502, "", "<html>hunter2</html>", "502"},

		"not found":           {404, "", "404 page hunter2 not found", "404" + lost},
		"wrong key":           {401, "sk-0", "hunter2", "401" + key},
		"no key":              {401, "", "hunter2", "401: no key was sent"},
		"forbidden":           {403, "sk-0", "hunter2", "403" + key},
		"forbidden to nobody": {403, "", "hunter2", "403: no key was sent"},

		"type and code": {404, "", `{"error":{"message":"hunter2","type":"invalid_request_error","param":"hunter2","code":"model_not_found"}}`,
			"404 (invalid_request_error, model_not_found)" + lost},
		"type":                  {500, "", `{"error":{"message":"hunter2","type":"api_error","code":null}}`, "500 (api_error)"},
		"code":                  {400, "", `{"error":{"message":"hunter2","code":"context-length.exceeded"}}`, "400 (context-length.exceeded)"},
		"a number":              {500, "", `{"error":{"code":1042,"type":"overloaded"}}`, "500 (overloaded, 1042)"},
		"the status again":      {500, "", `{"error":{"code":500,"type":"server_error","message":"hunter2"}}`, "500 (server_error)"},
		"the same twice":        {500, "", `{"error":{"code":"a","type":"a"}}`, "500 (a)"},
		"the longest":           {500, "", `{"error":{"type":"` + strings.Repeat("a", 64) + `"}}`, "500 (" + strings.Repeat("a", 64) + ")"},
		"too long":              {500, "", `{"error":{"type":"` + strings.Repeat("a", 65) + `"}}`, "500"},
		"not plain":             {500, "", `{"error":{"type":"the hunter2","code":"hunter2\n"}}`, "500"},
		"not ASCII":             {500, "", `{"error":{"type":"hünter2","code":""}}`, "500"},
		"not text":              {500, "", `{"error":{"type":["hunter2"],"code":{"a":"hunter2"}}}`, "500"},
		"a message":             {404, "", `{"error":"hunter2"}`, "404" + lost},
		"a key that comes back": {401, "hunter2", `{"error":{"type":"bad-hunter2","code":"hunter2"}}`, "401" + key},
		"no error":              {500, "", `{"message":"hunter2","type":"hunter2"}`, "500"},
		"a list":                {500, "", `[{"error":{"type":"hunter2"}}]`, "500"},
		"not whole":             {500, "", `{"error":{"type":"hunter2"}`, "500"},
		"more than is read":     {500, "", `{"error":{"type":"hunter2","message":"` + strings.Repeat("x", maxRefusal) + `"}}`, "500"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
			}, func(o *Options) { o.Key = test.key })
			text, err := collect(t.Context(), c, nil)
			if want := "chat: the endpoint answered with status " + test.want; !errors.Is(err, ErrStatus) || err.Error() != want || text != "" || asked != 1 {
				t.Errorf("got %q, %v after %d requests, want %s", text, err, asked, want)
			}
		})
	}
}

// A refusal whose body does not come is one all the same.
func TestSilentRefusal(t *testing.T) {
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // the server looks for the end of the connection after it
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, "hunter2")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c.grace = time.Millisecond
	if _, err := collect(t.Context(), c, nil); !errors.Is(err, ErrStatus) {
		t.Errorf("got %v", err)
	}
}

func TestRedirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, with %q", r.Header)
	}))
	defer other.Close()
	for _, status := range []int{302, 307, 308} {
		c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, status)
		}, func(o *Options) { o.Key = "sk-0" })
		if _, err := collect(t.Context(), c, nil); !errors.Is(err, ErrStatus) {
			t.Errorf("%d: got %v", status, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		after string
		waits []time.Duration
		asked int
	}{
		"none":           {"", []time.Duration{time.Second, 2 * time.Second}, 3},
		"seconds":        {"7", []time.Duration{7 * time.Second, 7 * time.Second}, 3},
		"at most":        {"10", []time.Duration{10 * time.Second, 10 * time.Second}, 3},
		"too long":       {"11", nil, 1},
		"date":           {"Sat, 21 Nov 2026 12:00:05 GMT", []time.Duration{5 * time.Second, 5 * time.Second}, 3},
		"less":           {"1", []time.Duration{time.Second, 2 * time.Second}, 3},
		"date past":      {"Sat, 21 Nov 2026 11:00:00 GMT", []time.Duration{time.Second, 2 * time.Second}, 3},
		"date too late":  {"Sat, 21 Nov 2026 12:00:11 GMT", nil, 1},
		"not a delay":    {"-5", []time.Duration{time.Second, 2 * time.Second}, 3},
		"beyond numbers": {"99999999999999999999", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var log, want strings.Builder
			for _, wait := range test.waits {
				fmt.Fprintf(&want, "level=WARN msg=\"a model is asked again\" run=run-1 model=m status=503 wait=%v\n", wait)
			}
			asked := 0
			c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				if test.after != "" {
					w.Header().Set("Retry-After", test.after)
				}
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprint(w, "hunter2")
			}, func(o *Options) {
				o.Now = func() time.Time { return now }
				o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: timeless}))
			})
			var waits []time.Duration
			c.wait = func(_ context.Context, d time.Duration) error {
				waits = append(waits, d)
				return nil
			}
			_, err := collect(t.Context(), c, nil)
			if !errors.Is(err, ErrStatus) || asked != test.asked || !slices.Equal(waits, test.waits) {
				t.Errorf("got %v after %d requests and waits of %v", err, asked, waits)
			}
			if log.String() != want.String() {
				t.Errorf("logged\n%s\nwant\n%s", &log, &want)
			}
		})
	}
}

// That an endpoint wants another name for the limit is told, once a run.
func TestAskedAgain(t *testing.T) {
	var log strings.Builder
	asked := 0
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":{"message":"hunter2: use max_completion_tokens"}}`)
			return
		}
		ends(w)
	}, func(o *Options) {
		o.MaxTokens = 7
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: timeless}))
	})
	if _, err := collect(t.Context(), c, nil); err != nil || asked != 2 {
		t.Errorf("got %v after %d requests", err, asked)
	}
	if want := "level=WARN msg=\"a model is asked again\" run=run-1 model=m status=400 wait=0s\n"; log.String() != want {
		t.Errorf("logged\n%s\nwant\n%s", &log, want)
	}
}

// timeless is what log lines are without their time.
func timeless(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

var errStopped = errors.New("stopped")

// What is cancelled ends at once, wherever it is, and the endpoint sees it.
func TestCancel(t *testing.T) {
	for name, test := range map[string]struct {
		handle func(http.ResponseWriter, *http.Request, context.CancelCauseFunc)
		each   func(agent.Event, context.CancelCauseFunc)
		want   string
	}{
		"before the header": {
			handle: func(_ http.ResponseWriter, r *http.Request, cancel context.CancelCauseFunc) {
				cancel(errStopped)
				<-r.Context().Done()
			},
		},
		"in the answer": {
			handle: func(w http.ResponseWriter, r *http.Request, _ context.CancelCauseFunc) {
				says(w, "Once ")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			},
			each: func(_ agent.Event, cancel context.CancelCauseFunc) { cancel(errStopped) },
			want: "Once ",
		},
		"before a retry": {
			handle: func(w http.ResponseWriter, r *http.Request, _ context.CancelCauseFunc) {
				w.Header().Set("Retry-After", "10")
				w.WriteHeader(http.StatusTooManyRequests)
			},
			each: func(_ agent.Event, cancel context.CancelCauseFunc) { cancel(errStopped) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			seen := make(chan struct{})
			c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
				defer close(seen)
				io.Copy(io.Discard, r.Body) // the server looks for the end of the connection after it
				test.handle(w, r, cancel)
			})
			text, err := collect(ctx, c, func(event agent.Event) { test.each(event, cancel) })
			if err != errStopped || text != test.want {
				t.Errorf("got %q, %v", text, err)
			}
			<-seen
		})
	}
}

// The endpoint is not asked to go on when nobody listens.
func TestGone(t *testing.T) {
	seen := make(chan struct{})
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(seen)
		io.Copy(io.Discard, r.Body)
		says(w, "Once ")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for event, err := range agent.Emit(c.run).Run(t.Context(), &agent.Input{}) {
		if event.Text != "Once " || err != nil {
			t.Errorf("got %v, %v", event, err)
		}
		break
	}
	<-seen
}

// 100 MiB of anything ends at its limit, and the endpoint is let go.
func TestTooLong(t *testing.T) {
	const flood = 100 << 20
	x := strings.Repeat("x", 64<<10)
	for name, test := range map[string]struct {
		begin, piece string
		text         int
	}{
		"deltas":     {"", `data: {"choices":[{"delta":{"content":"` + x + `"}}]}` + "\n\n", lines.DefaultLimit},
		"thoughts":   {"", `data: {"choices":[{"delta":{"reasoning_content":"` + x + `"}}]}` + "\n\n", 0},
		"more":       {"", `data: {"choices":[{"delta":{"reasoning":"` + x + `"}}]}` + "\n\n", 0},
		"arguments":  {"", `data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"` + x + `"}}]}}]}` + "\n\n", 0},
		"calls":      {"", `data: {"choices":[{"delta":{"tool_calls":[{"id":"` + x + `"}]}}]}` + "\n\n", 0},
		"signatures": {"", `data: {"choices":[{"delta":{"tool_calls":[{"extra_content":"` + x + `"}]}}]}` + "\n\n", 0},
		"one line":   {`data: {"choices":[{"delta":{"content":"`, x, 0},
		"a comment":  {":", x, 0},
		"no stream":  {`{"choices":[{"message":{"content":"`, x, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
				_, err := io.WriteString(w, test.begin)
				for sent := 0; err == nil && sent < flood; sent += len(test.piece) {
					_, err = io.WriteString(w, test.piece)
				}
				if err == nil {
					t.Error("all of it was read")
				}
			})
			text, err := collect(t.Context(), c, nil)
			if err != lines.ErrTooLong || len(text) != test.text {
				t.Errorf("got %d bytes of text, %v", len(text), err)
			}
		})
	}
}

// What goes on without a word of the model ends too, long before the deadline.
func TestSaysNothing(t *testing.T) {
	x := strings.Repeat("x", 64<<10)
	for name, piece := range map[string]string{
		"white space":    strings.Repeat(" ", 64<<10),
		"blank lines":    "\n:\n" + strings.Repeat("\n", 64<<10),
		"comments":       ": " + x + "\n\n",
		"no choices":     `data: {"choices":[],"x":"` + x + `"}` + "\n\n",
		"other choices":  `data: {"choices":[{"index":1,"delta":{"content":"` + x + `"}}]}` + "\n\n",
		"empty pieces":   `data: {"choices":[{"delta":{"content":""},"x":"` + x + `"}]}` + "\n\n",
		"data of blanks": "data: " + strings.Repeat(" ", 64<<10) + "\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
				for range 1 << 10 {
					if _, err := io.WriteString(w, piece); err != nil {
						return
					}
				}
				t.Error("all of it was read")
			}, func(o *Options) { o.Limit = 1 << 10 })
			if text, err := collect(t.Context(), c, nil); text != "" || err != lines.ErrTooLong {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
}

// An answer ends with what says so, and the endpoint that holds on is let go.
func TestEnd(t *testing.T) {
	for name, body := range map[string]string{
		"a reason":  `data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}` + "\n\n",
		"[DONE]":    `data: {"choices":[{"delta":{"content":"a"}}]}` + "\n\ndata: [DONE]\n\n",
		"an object": `{"choices":[{"message":{"content":"a"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan struct{})
			c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
				defer close(seen)
				io.Copy(io.Discard, r.Body) // the server looks for the end of the connection after it
				io.WriteString(w, body)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			c.grace = time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if text, err := collect(ctx, c, nil); text != "a" || err != nil {
				t.Errorf("got %q, %v", text, err)
			}
			<-seen
		})
	}
}

func TestLimit(t *testing.T) {
	for _, test := range []struct {
		limit int64
		want  string
		err   error
	}{
		{6, "a€é", nil},
		{7, "a€é", nil},
		{1 << 57, "a€é", nil}, // a hundred times that is negative
		{5, "a€", lines.ErrTooLong},
		{3, "a", lines.ErrTooLong},
		{1, "a", lines.ErrTooLong},
	} {
		c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
			says(w, "a€")
			says(w, "é")
			ends(w)
		}, func(o *Options) { o.Limit = test.limit })
		if text, err := collect(t.Context(), c, nil); text != test.want || err != test.err {
			t.Errorf("%d: got %q, %v", test.limit, text, err)
		}
	}
}

// A whole megabyte fits, however JSON spells it.
func TestLongestSpelling(t *testing.T) {
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"choices":[{"message":{"content":"%s"}}]}`, strings.Repeat(`\u0041`, lines.DefaultLimit))
	})
	if text, err := collect(t.Context(), c, nil); len(text) != lines.DefaultLimit || err != nil {
		t.Errorf("got %d bytes, %v", len(text), err)
	}
}

func TestUnreachable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent.Close()
	odd, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer odd.Close()
	go func() {
		for {
			conn, err := odd.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "hunter2 is no HTTP\r\n\r\n")
			conn.Close()
		}
	}()
	unknown := httptest.NewUnstartedServer(nil)
	unknown.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	unknown.StartTLS()
	defer unknown.Close()
	plain := httptest.NewServer(nil)
	defer plain.Close()

	operation := func(err error) bool { _, ok := errors.AsType[*net.OpError](err); return ok }
	certificate := func(err error) bool { _, ok := errors.AsType[*tls.CertificateVerificationError](err); return ok }
	record := func(err error) bool { _, ok := errors.AsType[tls.RecordHeaderError](err); return ok }
	any := func(error) bool { return true }
	for name, test := range map[string]struct {
		url  string
		why  func(error) bool
		text string
	}{
		"nobody listens":         {"http://" + silent.Addr().String(), operation, "refused"},
		"a certificate of no CA": {unknown.URL, certificate, "certificate"},
		"no TLS":                 {strings.Replace(plain.URL, "http:", "https:", 1), record, "TLS"},
		"no HTTP":                {"http://" + odd.Addr().String(), any, "no HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := newChat(Options{BaseURL: test.url, Model: "m"})
			if err != nil {
				t.Fatal(err)
			}
			_, err = collect(t.Context(), c, nil)
			if !errors.Is(err, ErrUnreachable) || !test.why(err) || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A connection that is reset says so, without what came over it.
func TestReset(t *testing.T) {
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		says(w, "Once ")
		w.(http.Flusher).Flush()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(conn, "hunter2\r\n") // not the length of a chunk
		conn.Close()
	})
	if text, err := collect(t.Context(), c, nil); text != "Once " || !errors.Is(err, ErrBroken) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %q, %v", text, err)
	}
}

// shed is tools that are given as functions.
type shed struct {
	list func() ([]Tool, error)
	call func(ctx context.Context, name string, arguments json.RawMessage) (string, error)
}

func (s shed) List(context.Context) ([]Tool, error) { return s.list() }

func (s shed) Call(ctx context.Context, name string, arguments json.RawMessage) (string, error) {
	return s.call(ctx, name, arguments)
}

// What fails before the first request ends the run, and nothing is sent.
func TestNotAsked(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"context": {func(o *Options) {
			o.Context = func(context.Context, *agent.Input) (string, error) { return "hunter2", broken }
		}, "chat: the context: broken"},
		"tools": {func(o *Options) {
			o.Tools = shed{list: func() ([]Tool, error) { return nil, broken }}
		}, "chat: the tools: broken"},
		"schema": {func(o *Options) {
			o.Tools = shed{list: func() ([]Tool, error) {
				return []Tool{{Name: "good"}, {Name: "x", Schema: json.RawMessage("{hunter2")}}, nil
			}}
		}, `chat: the tools: the schema of "x" is not JSON`},
	} {
		t.Run(name, func(t *testing.T) {
			c := endpoint(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") }, test.change)
			if _, err := collect(t.Context(), c, nil); err == nil || err.Error() != test.want || name != "schema" && !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A context that has nothing to say leaves the system prompt alone, and no list
// of tools is sent when there are none.
func TestNothingToSend(t *testing.T) {
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if want := `{"model":"m","stream":true,"messages":[{"role":"system","content":"s"},{"role":"user","content":"p"}]}`; string(body) != want || err != nil {
			t.Errorf("got %s, %v", body, err)
		}
		ends(w)
	}, func(o *Options) {
		o.System = "s"
		o.Context = func(context.Context, *agent.Input) (string, error) { return "", nil }
		o.Tools = shed{list: func() ([]Tool, error) { return nil, nil }}
	})
	if events := agenttest.Run(t, agent.Emit(c.run), agent.Input{Prompt: "p"}); len(events) != 0 {
		t.Errorf("got %v", events)
	}
}

// calls answers the first request with a call of the tool "x".
func calls(w http.ResponseWriter) {
	fmt.Fprint(w, `{"choices":[{"message":{"tool_calls":[{"id":"c","function":{"name":"x","arguments":"{}"}}]}}]}`)
}

func TestToolFails(t *testing.T) {
	var log bytes.Buffer
	asked := 0
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			calls(w)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || bytes.Contains(body, []byte("hunter2")) || !bytes.Contains(body, []byte("The tool failed.")) {
			t.Errorf("got %s, %v", body, err)
		}
		ends(w)
	}, func(o *Options) {
		o.Log = slog.New(slog.NewJSONHandler(&log, nil))
		o.Tools = shed{
			list: func() ([]Tool, error) { return []Tool{{Name: "x"}}, nil },
			call: func(context.Context, string, json.RawMessage) (string, error) { return "half", errors.New("hunter2") },
		}
	})
	if _, err := collect(t.Context(), c, nil); err != nil {
		t.Error(err)
	}
	var line struct{ Level, Msg, Run, Tool, Error string }
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, log.Bytes())
	}
	if line.Level != "WARN" || line.Msg != "tool" || line.Run != "run-1" || line.Tool != "x" || line.Error != "hunter2" {
		t.Errorf("logged %s", log.Bytes())
	}
}

// A tool that is cancelled ends the run, and its error is nobody's news.
func TestToolIsCancelled(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := 0
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		calls(w)
	}, func(o *Options) {
		o.Log = slog.New(slog.NewJSONHandler(&log, nil))
		o.Tools = shed{
			list: func() ([]Tool, error) { return []Tool{{Name: "x"}}, nil },
			call: func(ctx context.Context, _ string, _ json.RawMessage) (string, error) {
				cancel(errStopped)
				return "", ctx.Err()
			},
		}
	})
	if _, err := collect(ctx, c, nil); err != errStopped || asked != 1 || log.Len() > 0 {
		t.Errorf("got %v after %d requests, logged %q", err, asked, log.String())
	}
}

// A person reads a tool's title, the model its name.
func TestTitle(t *testing.T) {
	asked := 0
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || bytes.Contains(body, []byte("The garden")) {
			t.Errorf("sent %s, %v", body, err)
		}
		if asked++; asked == 1 {
			calls(w)
			return
		}
		ends(w)
	}, func(o *Options) {
		o.Tools = shed{
			list: func() ([]Tool, error) { return []Tool{{Name: "x", Title: "The garden"}}, nil },
			call: func(_ context.Context, name string, _ json.RawMessage) (string, error) { return name, nil },
		}
	})
	events := agenttest.Run(t, agent.Emit(c.run), agent.Input{})
	if len(events) != 1 || events[0].Kind != agent.Status || events[0].Text != "Asking The garden…" {
		t.Errorf("got %v", events)
	}
}

// One agent serves several people at once.
func TestSeveralRuns(t *testing.T) {
	c := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		var asked request
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		for piece := range strings.SplitAfterSeq(*asked.Messages[1].Content, " ") {
			says(w, piece)
			w.(http.Flusher).Flush()
		}
		ends(w)
	})
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			prompt := fmt.Sprintf("I am person %d of several", i)
			if text := agenttest.Text(t, agent.Emit(c.run), agent.Input{Prompt: prompt}); text != prompt {
				t.Errorf("got %q", text)
			}
		})
	}
}
