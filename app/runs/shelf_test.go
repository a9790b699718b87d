package runs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"bio/agent"
	"bio/app/audit"
)

// shelf is a Store in memory, for tests that inject the time. The real one is
// tested where it lives.
type shelf struct {
	mu      sync.Mutex
	runs    map[string]*kept // by id
	entries []audit.Entry
	calls   []string                 // in their order, what they did
	fail    func(call string) error  // nil: nothing fails
	latency map[string]time.Duration // of calls
}

type kept struct {
	Record
	events []agent.Event
	stop   bool
}

var errShelf = errors.New("the shelf is down")

func newShelf() *shelf { return &shelf{runs: map[string]*kept{}} }

// down makes these calls fail until the time given has passed.
func (s *shelf) down(d time.Duration, calls ...string) {
	until := time.Now().Add(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = func(call string) error {
		if time.Now().Before(until) && slices.Contains(calls, call) {
			return errShelf
		}
		return nil
	}
}

// delay makes a call take so long.
func (s *shelf) delay(call string, latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = map[string]time.Duration{call: latency}
}

// enter begins a call. s.mu is held when it succeeds.
func (s *shelf) enter(ctx context.Context, call string) error {
	s.mu.Lock()
	latency := s.latency[call]
	s.mu.Unlock()
	time.Sleep(latency)
	s.mu.Lock()
	s.calls = append(s.calls, call)
	err := ctx.Err()
	if err == nil && s.fail != nil {
		err = s.fail(call)
	}
	if err != nil {
		s.mu.Unlock()
	}
	return err
}

func (s *shelf) StartRun(ctx context.Context, r Record, stale time.Time, entry audit.Entry) (Record, error) {
	if err := s.enter(ctx, "start"); err != nil {
		return Record{}, err
	}
	defer s.mu.Unlock()
	for id, old := range s.runs {
		switch {
		case old.UserID != r.UserID || old.Agent != r.Agent:
		case old.Status == Running && !old.BeatAt.Before(stale) && !old.BeatAt.After(time.Now().Add(Stale)):
			return old.record(), nil
		default:
			if old.Status == Running {
				old.Status = Interrupted
				s.entries = append(s.entries, old.Entry())
			}
			delete(s.runs, id)
		}
	}
	r.StartedAt, r.BeatAt = time.Now(), time.Now()
	s.runs[r.ID] = &kept{Record: r}
	s.entries = append(s.entries, entry)
	return r, nil
}

func (k *kept) record() Record {
	r := k.Record
	r.Events = len(k.events)
	return r
}

// running returns the run when it is that.
func (s *shelf) running(id string) *kept {
	if k := s.runs[id]; k != nil && k.Status == Running {
		return k
	}
	return nil
}

func (s *shelf) KeepEvents(ctx context.Context, runID string, from int, events []agent.Event) (bool, error) {
	if err := s.enter(ctx, "keep"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	k := s.running(runID)
	if k == nil {
		return false, ErrNone
	}
	k.events = append(k.events[:from], events...)
	k.BeatAt = time.Now()
	return k.stop, nil
}

func (s *shelf) EndRun(ctx context.Context, runID string, from int, events []agent.Event, status, sentence string, entry audit.Entry) error {
	if err := s.enter(ctx, "end"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	k := s.running(runID)
	if k == nil {
		return ErrNone
	}
	k.events = append(k.events[:from], events...)
	k.Status, k.Sentence, k.EndedAt = status, sentence, time.Now()
	s.entries = append(s.entries, entry)
	return nil
}

func (s *shelf) AskToStop(ctx context.Context, userID, runID string) error {
	if err := s.enter(ctx, "stop"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	k := s.running(runID)
	if k == nil || k.UserID != userID {
		return ErrNone
	}
	k.stop = true
	return nil
}

func (s *shelf) LastRuns(ctx context.Context, userID string) (all []Record, err error) {
	if err := s.enter(ctx, "last"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	for _, k := range s.runs {
		if k.UserID == userID {
			all = append(all, k.record())
		}
	}
	return all, nil
}

func (s *shelf) RunEvents(ctx context.Context, runID string, from int) (Record, []agent.Event, error) {
	if err := s.enter(ctx, "events"); err != nil {
		return Record{}, nil, err
	}
	defer s.mu.Unlock()
	k := s.runs[runID]
	if k == nil {
		return Record{}, nil, ErrNone
	}
	return k.record(), slices.Clone(k.events[min(from, len(k.events)):]), nil
}

func (s *shelf) InterruptRuns(ctx context.Context, stale time.Time, sentence string, except ...string) (int, error) {
	if err := s.enter(ctx, "interrupt"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	n := 0
	for _, k := range s.runs {
		if k.Status == Running && (k.BeatAt.Before(stale) || k.BeatAt.After(time.Now().Add(Stale))) && !slices.Contains(except, k.ID) {
			k.Status, k.Sentence, k.EndedAt = Interrupted, sentence, time.Now()
			s.entries = append(s.entries, k.Entry())
			n++
		}
	}
	return n, nil
}

// erase removes what is kept of a person.
func (s *shelf) erase(userID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, k := range s.runs {
		if k.UserID == userID {
			delete(s.runs, id)
		}
	}
}

// of returns the run of a place, or an empty one.
func (s *shelf) of(userID, agentName string) kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.runs {
		if k.UserID == userID && k.Agent == agentName {
			return *k
		}
	}
	return kept{}
}

// count is how often a call was made.
func (s *shelf) count(call string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}
