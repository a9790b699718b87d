package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bio/agent"
	"bio/agent/agenttest"
	"bio/agent/lines"
	"bio/agent/webhook"
)

// TestMain sets a proxy before anything can have read the environment, which net/http
// does once.
func TestMain(m *testing.M) {
	os.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	os.Exit(m.Run())
}

// newAgent makes an agent of options that can be, which may call this machine and
// does not wait between attempts.
func newAgent(t *testing.T, o webhook.Options) agent.Agent {
	t.Helper()
	o.AllowPrivate = true
	a, err := webhook.New(o)
	if err != nil {
		t.Fatal(err)
	}
	webhook.Wait(a, func(context.Context, time.Duration) error { return nil })
	return a
}

// serve answers on this machine until the test ends. Every request is read whole
// first, so that its context ends with the connection.
func serve(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer(w, r)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

var input = agent.Input{RunID: "run-1", User: agent.User{ID: "0123", Name: "cedar-otter-42", Groups: []string{"ops"}}, Prompt: "why?"}

// ask runs a and returns its texts, joined, and its error.
func ask(ctx context.Context, a agent.Agent) (string, error) {
	var text strings.Builder
	for event, err := range agent.Guard(0)(a).Run(ctx, &input) {
		if err != nil {
			return text.String(), err
		}
		text.WriteString(event.Text)
	}
	return text.String(), nil
}

func TestNew(t *testing.T) {
	const secret = "hunter2"
	for url, test := range map[string]struct {
		public, private bool // whether it is one, without and with AllowPrivate
	}{
		"https://hook.example/a?b=c":        {true, true},
		"HTTPS://hook.example:8443":         {true, true},
		"https://1.1.1.1/":                  {true, true},
		"https://[2606:4700:4700::1111]/":   {true, true},
		"https://localhost/":                {true, true}, // found out when it is resolved
		"https://127.0.0.1/":                {false, true},
		"https://[::ffff:10.0.0.1]/":        {false, true},
		"https://169.254.169.254/":          {false, true},
		"https://[fe80::1%25eth0]/":         {false, true},
		"http://127.0.0.1:8080/":            {false, true},
		"http://[::1]/":                     {false, true},
		"http://localhost:8080/":            {false, true},
		"http://10.0.0.1/":                  {false, false},
		"http://1.1.1.1/":                   {false, false},
		"http://hook.example/" + secret:     {false, false},
		"http://localhost.hook.example/":    {false, false},
		"ftp://127.0.0.1/" + secret:         {false, false},
		"https://u:" + secret + "@a.test/":  {false, false},
		"https://a.test/#" + secret:         {false, false},
		"https:///" + secret:                {false, false},
		"https://:443/" + secret:            {false, false},
		"https:" + secret:                   {false, false},
		"hook.example/" + secret:            {false, false},
		"https://a.test/" + secret + "\x7f": {false, false},
		"https://a.test:" + secret:          {false, false},
		"":                                  {false, false},
	} {
		for private, want := range map[bool]bool{false: test.public, true: test.private} {
			a, err := webhook.New(webhook.Options{URL: url, AllowPrivate: private})
			if want != (err == nil) || want != (a != nil) || !want && !errors.Is(err, webhook.ErrOptions) {
				t.Errorf("%q, private %v: %v", url, private, err)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q: the error tells the URL: %v", url, err)
			}
		}
	}
	for secret, want := range map[string]string{
		"":                   "",
		"hunter2":            "hunter2",
		"whsec_aHVudGVyMg==": "hunter2",
		"WHSEC_aHVudGVyMg==": "WHSEC_aHVudGVyMg==",
		"whsec_":             "error",
		"whsec_hunter2":      "error",
	} {
		got, err := webhook.Key([]byte(secret))
		if err != nil {
			if want != "error" || !errors.Is(err, webhook.ErrOptions) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: %v", secret, err)
			}
		} else if string(got) != want {
			t.Errorf("%q: %q", secret, got)
		}
		_, made := webhook.New(webhook.Options{URL: "https://hook.example", Secret: []byte(secret)})
		if (made == nil) != (want != "error") {
			t.Errorf("%q: made: %v", secret, made)
		}
	}
}

// TestSign has the vector of the tests of Standard Webhooks's own libraries.
func TestSign(t *testing.T) {
	key, err := webhook.Key([]byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := webhook.Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRequest(t *testing.T) {
	const secret = "a secret that is just bytes"
	var header http.Header
	var body []byte
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		body, _ = io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.RequestURI != "/hook?a=b" {
			t.Errorf("%s %s", r.Method, r.RequestURI)
		}
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		fmt.Fprint(w, "hello")
	})
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	brief := func(_ context.Context, in *agent.Input) (string, error) { return "known as " + in.User.Name, nil }
	signed := newAgent(t, webhook.Options{
		URL: server.URL + "/hook?a=b", Secret: []byte(secret), Brief: brief, Now: func() time.Time { return now },
	})
	in := input
	in.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for range 2 { // the second time no cookie comes back
		if got := agenttest.Text(t, signed, in); got != "hello" {
			t.Errorf("got %q", got)
		}
		var got, want any
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(`{"run_id":"run-1","user":{"id":"0123","name":"cedar-otter-42","groups":["ops"]},
			"prompt":"why?","brief":"known as cedar-otter-42"}`), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %s", body)
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte("run-1.1795251600." + string(body)))
		if want := (http.Header{
			"Accept":            {"application/x-ndjson, text/event-stream, text/plain"},
			"Accept-Encoding":   {"identity"},
			"Connection":        {"close"},
			"Content-Length":    {fmt.Sprint(len(body))},
			"Content-Type":      {"application/json"},
			"Traceparent":       {in.TraceParent},
			"User-Agent":        {"bio"},
			"Webhook-Id":        {"run-1"},
			"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))},
			"Webhook-Timestamp": {"1795251600"},
		}); !reflect.DeepEqual(header, want) {
			t.Errorf("got %v\nwant %v", header, want)
		}
	}

	unsigned := newAgent(t, webhook.Options{URL: server.URL + "/hook?a=b"})
	agenttest.Run(t, unsigned, agent.Input{})
	if header.Values("Webhook-Signature") != nil || header.Values("Traceparent") != nil || header.Get("Webhook-Timestamp") == "" {
		t.Errorf("without secret and trace: %v", header)
	}
	if !strings.Contains(string(body), `"brief":""`) {
		t.Errorf("without brief: %s", body)
	}

	errBrief := errors.New("no facts")
	body = nil
	a := newAgent(t, webhook.Options{URL: server.URL, Brief: func(context.Context, *agent.Input) (string, error) { return "", errBrief }})
	if _, err := ask(t.Context(), a); !errors.Is(err, errBrief) || body != nil {
		t.Errorf("a brief that fails: %v, sent %s", err, body)
	}
}

func TestAnswer(t *testing.T) {
	text := func(s string) agent.Event { return agent.Event{Text: s} }
	const objects = "{\"kind\":\"status\",\"text\":\"…\"}\n{\"kind\":\"data\",\"data\":[1]}\n{\"kind\":\"text\",\"text\":\"a\"}\nb\n{\"kind\":\"view\"}\n"
	answers := []agent.Event{{Kind: agent.Status, Text: "…"}, {Kind: agent.Data, Data: json.RawMessage("[1]")}, text("a"), text("b\n"), text("{\"kind\":\"view\"}\n")}
	for name, test := range map[string]struct {
		kind, body string
		want       []agent.Event
	}{
		"JSON lines":                       {"application/x-ndjson", objects, answers},
		"any type":                         {"image/png", objects, answers},
		"no type":                          {"", objects, answers},
		"events, oddly":                    {"text/event-stream;;", "data: a\n\n", []agent.Event{text("a\n")}},
		"text":                             {"text/plain; charset=utf-8", "a\r\nb", []agent.Event{text("a\r\n"), text("b")}},
		"nothing":                          {"text/plain", "", nil},
		"invalid UTF-8":                    {"text/plain", "caf\xe9\n", []agent.Event{text("caf\uFFFD\n")}},
		"events":                           {"text/event-stream", ": hi\n\ndata: " + strings.ReplaceAll(strings.TrimSpace(objects), "\n", "\n\ndata: ") + "\n\n", answers},
		"events, loud":                     {"Text/Event-Stream; charset=UTF-8", "data: a\r\n\r\n", []agent.Event{text("a\n")}},
		"an event that no blank line ends": {"text/event-stream", "data: a\n\ndata: b\n", []agent.Event{text("a\n")}},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{test.kind}
				fmt.Fprint(w, test.body)
			})
			if got := agenttest.Run(t, newAgent(t, webhook.Options{URL: server.URL}), input); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestDrip has an answer whose next piece comes only when the one before was seen.
func TestDrip(t *testing.T) {
	for kind, format := range map[string]string{"text/plain": "%d\n", "text/event-stream": "data: %d\n\n"} {
		seen := make(chan struct{})
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			for i := range 3 {
				for _, c := range []byte(fmt.Sprintf(format, i)) {
					w.Write([]byte{c})
					w.(http.Flusher).Flush()
				}
				select {
				case <-seen:
				case <-r.Context().Done():
				}
			}
		})
		got := ""
		for event, err := range newAgent(t, webhook.Options{URL: server.URL}).Run(t.Context(), &input) {
			if err != nil {
				t.Fatal(err)
			}
			if got += event.Text; event.Text == "\n" || strings.HasSuffix(event.Text, "\n") {
				seen <- struct{}{}
			}
		}
		if got != "0\n1\n2\n" {
			t.Errorf("%s: got %q", kind, got)
		}
	}
}

func TestFlood(t *testing.T) {
	for kind, line := range map[string]string{
		"text/plain":        strings.Repeat("a", 1<<10),
		"text/event-stream": "data: " + strings.Repeat("a", 1<<10) + "\n\n",
	} {
		whole := make(chan bool, 1)
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			for range 100 << 10 {
				if _, err := w.Write([]byte(line)); err != nil {
					whole <- false
					return
				}
			}
			whole <- true
		})
		got, err := ask(t.Context(), newAgent(t, webhook.Options{URL: server.URL}))
		if !errors.Is(err, lines.ErrTooLong) || len(got) > lines.DefaultLimit {
			t.Errorf("%s: %d bytes, %v", kind, len(got), err)
		}
		if <-whole {
			t.Errorf("%s: the other side could send it all", kind)
		}
		if got, err = ask(t.Context(), newAgent(t, webhook.Options{URL: server.URL, Limit: 10})); !errors.Is(err, lines.ErrTooLong) || len(got) > 10 {
			t.Errorf("%s: %d bytes of 10, %v", kind, len(got), err)
		}
	}
}

// TestStatus has statuses, and how many requests they are worth.
func TestStatus(t *testing.T) {
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		status   int
		after    string
		requests int
		waits    []time.Duration
	}{
		{201, "", 1, nil},
		{204, "", 1, nil},
		{301, "", 1, nil},
		{302, "", 1, nil},
		{307, "", 1, nil},
		{308, "", 1, nil},
		{400, "", 1, nil},
		{401, "", 1, nil},
		{408, "1", 1, nil},
		{500, "1", 1, nil},
		{502, "", 1, nil},
		{599, "", 1, nil},
		{429, "", 3, []time.Duration{time.Second, 3 * time.Second}},
		{503, "", 3, []time.Duration{time.Second, 3 * time.Second}},
		{503, "soon", 3, []time.Duration{time.Second, 3 * time.Second}},
		{503, "0", 3, []time.Duration{time.Second, 3 * time.Second}},
		{429, "2", 3, []time.Duration{2 * time.Second, 3 * time.Second}},
		{503, "10", 3, []time.Duration{10 * time.Second, 10 * time.Second}},
		{503, now.Add(9 * time.Second).Format(http.TimeFormat), 3, []time.Duration{9 * time.Second, 9 * time.Second}},
		{429, "11", 1, nil},
		{429, now.Add(time.Hour).Format(http.TimeFormat), 1, nil},
	} {
		t.Run(fmt.Sprint(test.status, " ", test.after), func(t *testing.T) {
			var other atomic.Int32
			elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { other.Add(1) })
			var ids []string
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				ids = append(ids, r.Header.Get("Webhook-Id"))
				w.Header().Set("Location", elsewhere.URL)
				if test.after != "" {
					w.Header().Set("Retry-After", test.after)
				}
				w.WriteHeader(test.status)
				fmt.Fprint(w, "hunter2")
			})
			var log bytes.Buffer
			a := newAgent(t, webhook.Options{URL: server.URL, Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }})
			var waits []time.Duration
			webhook.Wait(a, func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil })
			got, err := ask(t.Context(), a)
			if got != "" || !errors.Is(err, webhook.ErrStatus) || !strings.Contains(err.Error(), fmt.Sprint(test.status)) {
				t.Errorf("got %q, %v", got, err)
			}
			if len(ids) != test.requests || slices.ContainsFunc(ids, func(id string) bool { return id != "run-1" }) || !slices.Equal(waits, test.waits) {
				t.Errorf("requests %q, waits %v", ids, waits)
			}
			if lines := strings.Count(log.String(), "run=run-1"); lines != len(waits) {
				t.Errorf("%d lines in the log for %d waits:\n%s", lines, len(waits), &log)
			}
			if strings.Contains(err.Error()+log.String(), "hunter2") || strings.Contains(log.String(), server.URL) {
				t.Errorf("too much is told: %v\n%s", err, &log)
			}
			if other.Load() != 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}

// TestAgain has an answer at the third request; each is signed for its own time.
func TestAgain(t *testing.T) {
	var stamps, bodies []string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		stamp := r.Header.Get("Webhook-Timestamp")
		stamps, bodies = append(stamps, stamp), append(bodies, string(body))
		mac := hmac.New(sha256.New, []byte("key"))
		fmt.Fprint(mac, r.Header.Get("Webhook-Id"), ".", stamp, ".", string(body))
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.Header.Get("Webhook-Signature") != want {
			t.Error("the signature is not of this request")
		}
		if len(stamps) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "at last")
	})
	now := time.Unix(1000, 0)
	a := newAgent(t, webhook.Options{URL: server.URL, Secret: []byte("key"), Now: func() time.Time { return now }})
	webhook.Wait(a, func(_ context.Context, d time.Duration) error { now = now.Add(d); return nil })
	if got := agenttest.Text(t, a, input); got != "at last" {
		t.Errorf("got %q", got)
	}
	if !slices.Equal(stamps, []string{"1000", "1001", "1004"}) || bodies[0] != bodies[1] || bodies[1] != bodies[2] {
		t.Errorf("stamps %q, bodies %q", stamps, bodies)
	}

	// The run ends while it waits.
	stamps = nil
	ctx, cancel := context.WithCancelCause(t.Context())
	errStopped := errors.New("stopped")
	webhook.Wait(a, func(ctx context.Context, _ time.Duration) error { cancel(errStopped); return context.Cause(ctx) })
	if _, err := ask(ctx, a); !errors.Is(err, errStopped) || len(stamps) != 1 {
		t.Errorf("%v after %d requests", err, len(stamps))
	}
}

func TestTLS(t *testing.T) {
	var requests, connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		fmt.Fprint(w, r.Proto)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	named := strings.Replace(server.URL, "127.0.0.1", "localhost", 1) // which its certificate does not know

	trusting := newAgent(t, webhook.Options{URL: server.URL})
	webhook.Trust(trusting, roots)
	if got := agenttest.Text(t, trusting, input); got != "HTTP/1.1" {
		t.Errorf("got %q", got)
	}

	misnamed := newAgent(t, webhook.Options{URL: named})
	webhook.Trust(misnamed, roots)
	never := func(context.Context, time.Duration) error { t.Error("tried again"); return nil }
	connections.Store(0)
	requests.Store(0)
	for name, a := range map[string]agent.Agent{"misnamed": misnamed, "untrusted": newAgent(t, webhook.Options{URL: server.URL})} {
		webhook.Wait(a, never)
		var certificate *tls.CertificateVerificationError
		if _, err := ask(t.Context(), a); !errors.Is(err, webhook.ErrConnect) || !errors.As(err, &certificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if connections.Load() != 2 || requests.Load() != 0 {
		t.Errorf("%d requests by %d connections", requests.Load(), connections.Load())
	}

	// A name that leads to this machine is refused before a connection is made.
	hidden, err := webhook.New(webhook.Options{URL: named})
	if err != nil {
		t.Fatal(err)
	}
	webhook.Trust(hidden, roots)
	webhook.Wait(hidden, never)
	connections.Store(0)
	if _, err := ask(t.Context(), hidden); !errors.Is(err, webhook.ErrAddress) || !errors.Is(err, webhook.ErrConnect) {
		t.Errorf("hidden: %v", err)
	}
	if connections.Load() != 0 {
		t.Errorf("hidden: %d connections", connections.Load())
	}

	plain := serve(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	a := newAgent(t, webhook.Options{URL: strings.Replace(plain.URL, "http:", "https:", 1)})
	webhook.Wait(a, never)
	var record tls.RecordHeaderError
	if _, err := ask(t.Context(), a); !errors.Is(err, webhook.ErrConnect) || !errors.As(err, &record) || requests.Load() != 0 {
		t.Errorf("a server without TLS: %v", err)
	}
}

// TestHandshake has connections that end before TLS is spoken. That may pass.
func TestHandshake(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int32
	done := make(chan struct{})
	t.Cleanup(func() { listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			conn.Read(make([]byte, 4<<10)) // the client's hello
			conn.Close()
		}
	}()
	if _, err := ask(t.Context(), newAgent(t, webhook.Options{URL: "https://" + listener.Addr().String()})); !errors.Is(err, webhook.ErrConnect) {
		t.Errorf("got %v", err)
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
}

// TestNoProxy has the proxy of TestMain in the environment, to which nothing goes.
func TestNoProxy(t *testing.T) {
	a := newAgent(t, webhook.Options{URL: "https://hook.example/"})
	var dialled []string
	webhook.Dial(a, func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		return nil, errors.New("no network")
	})
	if _, err := ask(t.Context(), a); !errors.Is(err, webhook.ErrConnect) || !slices.Equal(dialled, []string{"hook.example:443"}) {
		t.Errorf("dialled %q: %v", dialled, err)
	}
}

// TestBroken has answers that break off or are none. They are not asked for again,
// and the error does not repeat them.
func TestBroken(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n"
	chunk := func(kind, body string) string { return fmt.Sprintf(chunked, kind, len(body), body) }
	for name, test := range map[string]struct {
		answer, want string
	}{
		"nothing":                    {"", ""},
		"not HTTP":                   {"hunter2\r\n\r\n", ""},
		"a status that is none":      {"HTTP/1.1 hunter2 OK\r\n\r\n", ""},
		"a header that is none":      {"HTTP/1.1 200 OK\r\nhunter2\r\n\r\n", ""},
		"a header without end":       {"HTTP/1.1 200 OK\r\nA: hunter2\r\n", ""},
		"a header too long":          {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("hunter2", 20<<10) + "\r\n\r\n", ""},
		"a length that is none":      {"HTTP/1.1 200 OK\r\nContent-Length: hunter2\r\n\r\n", ""},
		"encoded":                    {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nhunter2", ""},
		"shorter than it says":       {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\na\nb", "a\nb"},
		"text, cut":                  {chunk("text/plain", "a\nb"), "a\nb"},
		"an object, cut":             {chunk("text/plain", "a\n{\"kind\":\"text\",\"te"), "a\n"},
		"a chunk that is none":       {chunk("text/plain", "a\n") + "hunter2\r\n", "a\n"},
		"a trailer that is none":     {chunk("text/plain", "a\n") + "0\r\nhunter2\r\n\r\n", "a\n"},
		"events, cut in one":         {chunk("text/event-stream", "data: a\n\ndata: hunter2\n"), "a\n"},
		"events, cut between":        {chunk("text/event-stream", "data: a\n\n"), "a\n"},
		"events, shorter than it is": {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: a\n\nda", "a\n"},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var connections atomic.Int32
			done := make(chan struct{})
			t.Cleanup(func() { listener.Close(); <-done })
			go func() {
				defer close(done)
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					connections.Add(1)
					if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
						io.Copy(io.Discard, r.Body)
					}
					io.WriteString(conn, test.answer)
					conn.Close()
				}
			}()
			got, err := ask(t.Context(), newAgent(t, webhook.Options{URL: "http://" + listener.Addr().String()}))
			if got != test.want || !errors.Is(err, webhook.ErrAnswer) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %q, %v", got, err)
			}
			if n := connections.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestStop has runs that end while the other side works; it sees that.
func TestStop(t *testing.T) {
	errStopped := errors.New("stopped")
	for name, test := range map[string]struct {
		kind, said string // before it hangs; "": not even a header
		last       string // what is then seen
		cancelled  bool   // otherwise nobody takes another event
	}{
		"before the header":              {"", "", "", true},
		"in a text":                      {"text/plain", "a\nb", "b", true},
		"between events":                 {"text/event-stream", "data: a\n\n", "a\n", true},
		"in a text, nobody listens":      {"text/plain", "a\nb", "b", false},
		"between events, nobody listens": {"text/event-stream", "data: a\n\n", "a\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			arrived, left := make(chan struct{}), make(chan struct{})
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if test.said != "" {
					w.Header().Set("Content-Type", test.kind)
					fmt.Fprint(w, test.said)
					w.(http.Flusher).Flush()
				}
				close(arrived)
				<-r.Context().Done()
				close(left)
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if test.said == "" {
				go func() {
					<-arrived
					cancel(errStopped)
				}()
			}
			var got error
			for event, err := range newAgent(t, webhook.Options{URL: server.URL}).Run(ctx, &input) {
				if got = err; err != nil || event.Text != test.last {
					continue
				}
				if !test.cancelled {
					break
				}
				cancel(errStopped)
			}
			if test.cancelled && got != errStopped {
				t.Errorf("got %v", got)
			}
			<-left
		})
	}
}

// pipes is a network of one listener, inside a bubble of synctest.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p.conns <- there
	return here, nil
}

// TestTime has what lasts.
func TestTime(t *testing.T) {
	hangs := func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	busy := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }
	for name, test := range map[string]struct {
		url    string
		answer http.HandlerFunc // nil: connections are made, and nothing is read from them
		within time.Duration
		text   string
		err    error
		took   time.Duration
	}{
		"no header":                   {"http://127.0.0.1", hangs, time.Hour, "", webhook.ErrAnswer, time.Minute},
		"a request that nobody reads": {"http://127.0.0.1", nil, time.Hour, "", webhook.ErrAnswer, time.Minute},
		"no TLS":                      {"https://hook.example", nil, time.Hour, "", webhook.ErrConnect, 34 * time.Second}, // three times ten, and the waits
		"a slow body": {"http://127.0.0.1", func(w http.ResponseWriter, _ *http.Request) {
			for range 10 {
				time.Sleep(59 * time.Second)
				fmt.Fprint(w, "a")
				w.(http.Flusher).Flush()
			}
		}, time.Hour, "aaaaaaaaaa", nil, 590 * time.Second},
		"a body without end": {"http://127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "a")
			w.(http.Flusher).Flush()
			hangs(w, r)
		}, time.Hour, "a", context.DeadlineExceeded, time.Hour},
		"busy":                {"http://127.0.0.1", busy, time.Hour, "", webhook.ErrStatus, 4 * time.Second},
		"no time to wait for": {"http://127.0.0.1", busy, 2 * time.Second, "", context.DeadlineExceeded, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := pipes{make(chan net.Conn, 3), make(chan struct{})}
				if test.answer != nil {
					server := &http.Server{Handler: test.answer}
					go server.Serve(network)
					defer server.Close()
				}
				a, err := webhook.New(webhook.Options{URL: test.url, AllowPrivate: true})
				if err != nil {
					t.Fatal(err)
				}
				webhook.Dial(a, network.dial)
				ctx, cancel := context.WithTimeout(t.Context(), test.within)
				defer cancel()
				start := time.Now()
				got, err := ask(ctx, a)
				if got != test.text || !errors.Is(err, test.err) || time.Since(start) != test.took {
					t.Errorf("got %q, %v after %v", got, err, time.Since(start))
				}
			})
		})
	}
}
