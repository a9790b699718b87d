package chat

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bio/agent"
)

var update = flag.Bool("update", false, "write what the transcripts should say of requests and events")

// transcript is a file of testdata/transcripts. A section begins with a line
// "-- name --" and goes on to the next. First come the input and the answers: a
// status, header fields, an empty line and the body each; one may be "aborted",
// and one that breaks off "in a line" is sent without its last line feed. Then
// come the requests, on several lines for reading, and the events that they make.
type transcript struct {
	sections [][2]string // name and body
}

func readTranscript(t *testing.T, file string) transcript {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s transcript
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "-- "); ok {
			s.sections = append(s.sections, [2]string{strings.TrimSuffix(name, " --\n"), ""})
			continue
		}
		if len(s.sections) == 0 {
			t.Fatalf("%s does not begin with a section", file)
		}
		s.sections[len(s.sections)-1][1] += line
	}
	return s
}

// all returns the bodies of the sections whose name begins so, and those names.
func (s transcript) all(prefix string) (bodies, names []string) {
	for _, section := range s.sections {
		if strings.HasPrefix(section[0], prefix) {
			bodies, names = append(bodies, section[1]), append(names, section[0])
		}
	}
	return bodies, names
}

// input is what the agent is made of, and what it is asked.
type input struct {
	Prompt, Context, System string
	MaxTokens               int
	Tools                   bool
}

// script answers the nth request with the nth answer of a transcript, in writes
// of at most size bytes, and keeps the requests.
type script struct {
	t              *testing.T
	answers, names []string
	size           int

	mu       sync.Mutex
	requests []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	n := len(s.requests)
	s.requests = append(s.requests, strings.NewReplacer(`{"role"`, "\n"+`{"role"`, `],"tools"`, "\n"+`],"tools"`).Replace(string(body))+"\n")
	s.mu.Unlock()
	if n >= len(s.answers) {
		s.t.Errorf("request %d, of %d", n+1, len(s.answers))
		return
	}
	answer := bufio.NewReader(strings.NewReader(s.answers[n]))
	line, _ := answer.ReadString('\n')
	status, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		s.t.Error(err)
	}
	fields, err := textproto.NewReader(answer).ReadMIMEHeader()
	if err != nil {
		s.t.Error(err)
	}
	for name, values := range fields {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	rest, _ := io.ReadAll(answer)
	if strings.Contains(s.names[n], "in a line") {
		rest = bytes.TrimSuffix(rest, []byte("\n"))
	}
	for piece := range slices.Chunk(rest, s.size) {
		if _, err := w.Write(piece); err != nil {
			return // a refusal need not be read to its end
		}
		w.(http.Flusher).Flush()
	}
	if strings.Contains(s.names[n], "aborted") {
		panic(http.ErrAbortHandler)
	}
}

// desk has tools of every sort.
type desk struct{}

func (desk) List(context.Context) ([]Tool, error) {
	return []Tool{
		{Name: "weather", Description: "Of a city.", Schema: json.RawMessage(`{"type":"object","properties":{"city":{"type":"string"}}}`)},
		{Name: "clock"},
		{Name: "broken"},
		{Name: "long"},
	}, nil
}

func (desk) Call(_ context.Context, name string, arguments json.RawMessage) (string, error) {
	switch name {
	case "weather":
		var asked struct{ City string }
		if err := json.Unmarshal(arguments, &asked); err != nil {
			return "", err
		}
		return "21 °C in " + asked.City, nil
	case "clock":
		return "noon, given " + string(arguments), nil
	case "long":
		return strings.Repeat("x", maxResult+1), nil
	}
	return "", errors.New("hunter2")
}

// known are the errors of the package by name.
var known = map[string]error{
	"ErrUnreachable": ErrUnreachable, "ErrStatus": ErrStatus, "ErrProtocol": ErrProtocol,
	"ErrEndpoint": ErrEndpoint, "ErrBroken": ErrBroken, "ErrCalls": ErrCalls,
}

// play runs c and writes down what it yields.
func play(ctx context.Context, c *chat, in *agent.Input) string {
	var out strings.Builder
	for event, err := range agent.Emit(c.run).Run(ctx, in) {
		if err == nil {
			fmt.Fprintf(&out, "%s %q\n", event.Kind, event.Text)
			continue
		}
		name := "unknown"
		for n, sentinel := range known {
			if errors.Is(err, sentinel) {
				name = n
			}
		}
		fmt.Fprintf(&out, "%s %v\n", name, err)
	}
	return out.String()
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		recorded := readTranscript(t, file)
		for _, size := range []int{1 << 20, 7, 1} {
			t.Run(fmt.Sprintf("%s in writes of %d", name, size), func(t *testing.T) {
				testTranscript(t, recorded, file, size)
			})
		}
	}
}

func testTranscript(t *testing.T, s transcript, file string, size int) {
	var in input
	first, _ := s.all("input")
	if err := json.Unmarshal([]byte(first[0]), &in); err != nil {
		t.Fatal(err)
	}
	endpoint := &script{t: t, size: size}
	endpoint.answers, endpoint.names = s.all("answer")
	server := httptest.NewServer(endpoint)
	o := Options{
		BaseURL: server.URL + "/v1", Model: "test-model", System: in.System, MaxTokens: in.MaxTokens,
	}
	if in.Context != "" {
		o.Context = func(context.Context, *agent.Input) (string, error) { return in.Context, nil }
	}
	if in.Tools {
		o.Tools = desk{}
	}
	c, err := newChat(o)
	if err != nil {
		t.Fatal(err)
	}
	c.wait = func(context.Context, time.Duration) error { return nil }
	got := play(t.Context(), c, &agent.Input{RunID: "run-1", User: agent.User{Name: "cedar-otter-42"}, Prompt: in.Prompt})
	server.Close() // no request is under way any more

	if *update {
		s.sections = slices.DeleteFunc(s.sections, func(section [2]string) bool {
			return section[0] == "request" || section[0] == "events"
		})
		for _, request := range endpoint.requests {
			s.sections = append(s.sections, [2]string{"request", request})
		}
		s.sections = append(s.sections, [2]string{"events", got})
		var out strings.Builder
		for _, section := range s.sections {
			fmt.Fprintf(&out, "-- %s --\n%s", section[0], section[1])
		}
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if len(endpoint.requests) != len(endpoint.answers) {
		t.Errorf("%d requests for %d answers", len(endpoint.requests), len(endpoint.answers))
	}
	if want, _ := s.all("request"); !slices.Equal(endpoint.requests, want) {
		t.Errorf("requests\n%s\nwant\n%s", strings.Join(endpoint.requests, ""), strings.Join(want, ""))
	}
	if want, _ := s.all("events"); got != strings.Join(want, "") {
		t.Errorf("events\n%s\nwant\n%s", got, strings.Join(want, ""))
	}
}
