package server

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
)

// FirstOwner is the link that a start prints.
func FirstOwner(ctx context.Context, s *Server) (string, error) { return s.firstOwner(ctx) }

// Started records a start.
func Started(ctx context.Context, s *Server) error { return s.started(ctx, "test") }

// Metrics is what a start serves on BIO_METRICS_LISTEN.
func Metrics(s *Server) http.Handler { return s.metrics.handler() }

// Settle records and publishes what the keeper of the trail does in one pass; with
// all, as at the end of a drain.
func Settle(ctx context.Context, s *Server, all bool) { s.trail.settle(ctx, all) }

// Publish publishes a checkpoint of the first size entries, and returns it.
func Publish(ctx context.Context, s *Server, size int64) ([]byte, error) {
	s.trail.publishing.Lock()
	defer s.trail.publishing.Unlock()
	p, err := s.trail.publish(ctx, size)
	return p.note, err
}

// WaitForRuns waits until the runs that go on have ended and are written down.
func WaitForRuns(ctx context.Context, s *Server) error { return s.runs.Wait(ctx) }

// CloseRuns ends the runs, as a drain does.
func CloseRuns(ctx context.Context, s *Server) error { return s.runs.Close(ctx) }

// Activity says an act in words.
func Activity(r audit.Record) string { return activity(r) }

// Routes are the site map: the method and the path of each route, sorted.
func Routes(s *Server) (all [][2]string) {
	for _, r := range s.handler.(*echo.Echo).Routes() {
		all = append(all, [2]string{r.Method, r.Path})
	}
	slices.SortFunc(all, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	return all
}

// Codes are those of all problems, sorted.
func Codes() []string {
	codes := map[string]bool{}
	for _, o := range outcomes {
		codes[o.code] = true
	}
	for _, err := range []error{echo.ErrNotFound, echo.ErrMethodNotAllowed, &tooManyError{}, &account.EarlyError{}, errors.New("anything")} {
		codes[outcomeOf(err).code] = true
	}
	return slices.Sorted(maps.Keys(codes))
}

// AgentNames are the agents of a server, in their order.
func AgentNames(s *Server) []string { return s.agents }

// AdviseAgents logs what a start says of its agents.
func AdviseAgents(s *Server, registered []agent.Named) { s.adviseAgents(registered) }
