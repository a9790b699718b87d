package runs

import "slices"

// Runs that wait get their turns as people go round: of everybody one, then of
// everybody who has more another. Who comes new is behind the first of everybody
// else, and before their seconds. The queue is in that order, so that a run's place in
// it is how many are before it as long as nobody comes.

// count is how many runs of an agent have a turn, and how many wait for one.
type count struct{ working, waiting int }

// Count returns how many runs of the agent are at work in this process, with those
// that were told to end and have not, and how many wait for their turn; zeros for an
// agent that is unknown.
func (r *Runs) Count(agentName string) (working, waiting int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.counts[agentName]; c != nil {
		return c.working, c.waiting
	}
	return 0, 0
}

// enter makes run the active one of its place, with a turn or in the queue. r.mu is
// held.
func (r *Runs) enter(run *Run) {
	r.active[run.at] = run
	r.lives.Add(1)
	r.counts[run.at.agent].waiting++
	i := r.insert(run)
	if r.busy < r.options.Max {
		r.next()
	} else {
		r.tell(i)
	}
}

// insert puts run into the queue as the last of its person's, and returns where. r.mu
// is held.
func (r *Runs) insert(run *Run) (i int) {
	run.rank = r.waits[run.at.user]
	r.waits[run.at.user]++
	for i = len(r.queue); i > 0 && r.queue[i-1].rank > run.rank; i-- {
	}
	r.queue = slices.Insert(r.queue, i, run)
	return i
}

// leave takes a run that has ended out of the queue, or takes its turn from it,
// and gives that to the next. r.mu is held.
func (r *Runs) leave(run *Run) {
	if first := slices.Index(r.queue, run); first >= 0 {
		last := first
		// The next of the same person takes its place, and so on.
		for i, next := range r.queue[first+1:] {
			if i += first + 1; next.at.user == run.at.user {
				r.queue[last], r.queue[i], last = next, run, i
				run.rank, next.rank = next.rank, run.rank
			}
		}
		r.queue = slices.Delete(r.queue, last, last+1)
		if r.waits[run.at.user]--; r.waits[run.at.user] == 0 {
			delete(r.waits, run.at.user)
		}
		r.counts[run.at.agent].waiting--
		r.tell(first)
	}
	if run.turn {
		run.turn = false
		r.busy--
		r.counts[run.at.agent].working--
		r.next()
	}
}

// next gives the turns that are free to those who wait. r.mu is held.
func (r *Runs) next() {
	for len(r.queue) > 0 && r.busy < r.options.Max {
		run := r.queue[0]
		// The person's next is behind the first of everybody else now.
		var own []*Run
		r.queue = slices.DeleteFunc(r.queue, func(other *Run) bool {
			if other.at.user != run.at.user {
				return false
			}
			own = append(own, other)
			return true
		})
		delete(r.waits, run.at.user)
		for _, other := range own[1:] {
			r.insert(other)
		}
		r.busy++
		r.counts[run.at.agent].waiting--
		r.counts[run.at.agent].working++
		run.turn = true
		run.called()
		r.tell(0)
	}
}

// tell says to those who wait, from the first that was moved, how many are before
// them. r.mu is held.
func (r *Runs) tell(first int) {
	for i, run := range r.queue[first:] {
		run.queued(first + i)
	}
}
