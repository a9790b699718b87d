package runs

import (
	"context"
	"errors"
	"time"

	"bio/agent"
)

// askEvery is how often the store is asked for what is new of a run that goes on
// elsewhere, while someone looks.
const askEvery = 300 * time.Millisecond

// moveTo makes run the one that is kept, which is not of this instance, or was not
// lately, and reports whether it does: one that has ended stays as it is, and one
// of which someone was told that it is what they asked for.
func (run *Run) moveTo(kept Record) bool {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.status != Running || run.decided {
		return false
	}
	run.elsewhere, run.waiting = true, false
	run.id, run.prompt, run.asked = kept.ID, kept.Prompt, kept.StartedAt
	run.show(kept)
	run.ask()
	run.decide()
	return true
}

// decide notes that it is known whether the run is what was asked for. run.mu is
// held.
func (run *Run) decide() {
	if !run.decided {
		run.decided = true
		close(run.known)
	}
}

// moved reports whether the run goes on elsewhere, or went on there.
func (run *Run) moved() bool {
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.elsewhere
}

// olderThan reports whether what is kept is a later run than this one, of which
// nothing goes on here.
func (run *Run) olderThan(kept Record) bool {
	run.mu.Lock()
	defer run.mu.Unlock()
	switch {
	case run.id == kept.ID:
		return false
	case run.elsewhere || !run.written.IsZero():
		return true // it was kept, and has been replaced
	}
	return kept.StartedAt.After(run.asked)
}

// observe takes what is kept of the run, if it is that and is elsewhere.
func (run *Run) observe(kept Record) {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.elsewhere && run.id == kept.ID {
		run.show(kept)
		run.ask()
	}
}

// show takes the status of a run elsewhere. run.mu is held.
func (run *Run) show(kept Record) {
	run.status, run.sentence = kept.shown(run.runs.options.Now())
	run.complete = run.status != Running && len(run.events) >= kept.Events
	if run.complete {
		run.ring(true)
	}
}

// ask lets the store be asked for events while there is someone to see them.
// run.mu is held.
func (run *Run) ask() {
	if run.elsewhere && !run.complete && !run.asking && len(run.viewers) > 0 {
		run.asking = true
		go run.askStore()
	}
}

// askStore asks until the run has ended or nobody looks any more.
func (run *Run) askStore() {
	r := run.runs
	answered := r.options.Now()
	for failing := false; ; {
		id, from, more := run.missing()
		if !more {
			return
		}
		ctx, cancel := context.WithTimeout(r.cut, storeWait)
		kept, events, err := r.options.Store.RunEvents(ctx, id, from)
		cancel()
		now := r.options.Now()
		switch {
		case err == nil:
			answered = now
			run.grow(kept, events)
		case r.cut.Err() != nil:
			run.lose("The server is restarting. Open this page again in a minute.")
		case errors.Is(err, ErrNone):
			run.lose("There is a newer run. Open this page again to see it.")
		case now.Sub(answered) > Stale:
			run.lose("This cannot be shown right now. Open this page again in a minute.")
		case !failing:
			r.complain(run, "a run elsewhere cannot be followed", err)
		}
		failing = err != nil
		select {
		case <-time.After(askEvery):
		case <-r.cut.Done():
		}
	}
}

// missing says what to ask for; more is false when there is nothing to ask, or
// nobody to ask for.
func (run *Run) missing() (id string, from int, more bool) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.asking = !run.complete && len(run.viewers) > 0
	return run.id, len(run.events), run.asking
}

// grow takes what the store has.
func (run *Run) grow(kept Record, events []agent.Event) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.events = append(run.events, events...)
	run.closed = len(run.events)
	run.ring(false)
	run.show(kept)
}

// lose ends the run for those who look at it now. Who looks later asks again.
func (run *Run) lose(sentence string) {
	run.runs.mu.Lock()
	run.runs.drop(run)
	run.runs.mu.Unlock()
	run.mu.Lock()
	defer run.mu.Unlock()
	run.status, run.sentence, run.complete = Interrupted, sentence, true
	run.ring(true)
}
