package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"bio/agent"
	"bio/app/account"
	"bio/app/audit"
	"bio/app/runs"
)

// A beat that is ahead of the clock by more than clocks differ is of a server that
// is gone: its run is in nobody's way. One that is ahead by less goes on.
func TestStartRunAhead(t *testing.T) {
	for ahead, taken := range map[time.Duration]bool{runs.Stale: false, runs.Stale + time.Millisecond: true, 24 * time.Hour: true} {
		db, c := openTest(t)
		user := register(t, db, c, "1").User.ID
		c.Advance(48 * time.Hour)
		first := started(t, db, c, runOf(user, "brief", "1"))
		c.Advance(-ahead)
		second := runOf(user, "brief", "2")
		kept := must[runs.Record](t)(db.StartRun(t.Context(), second, c.Now().Add(-runs.Stale), second.Entry()))
		if want := map[bool]string{true: second.ID, false: first.ID}[taken]; kept.ID != want {
			t.Errorf("%v ahead: run %s, want %s", ahead, kept.ID, want)
		}
		checkInvariants(t, db)
	}
}

// Which runs are ended: by their beats, but none that the caller knows to go on. A
// moment more than Stale ahead ends all the others.
func TestInterruptRunsLeft(t *testing.T) {
	const many = expireBatch + 3 // that the caller knows of, before the others
	var except []string
	for i := range many {
		except = append(except, fmt.Sprint("run-known ", i))
	}
	for name, test := range map[string]struct {
		stale  time.Duration // from now
		except []string
		want   int // of the old, the fresh, the near and the far ahead
		kept   map[string]bool
	}{
		"as housekeeping does":       {-runs.Stale, except, 2, map[string]bool{"fresh": true, "near": true}},
		"one that goes on, far away": {-runs.Stale, append([]string{"run-far"}, except...), 1, map[string]bool{"fresh": true, "near": true, "far": true}},
		"one that goes on, long ago": {-runs.Stale, append([]string{"run-old"}, except...), 1, map[string]bool{"fresh": true, "near": true, "old": true}},
		"all that were left":         {runs.Stale + time.Millisecond, nil, 4 + many, nil},
		"all, from afar":             {24 * time.Hour, nil, 4 + many, nil},
	} {
		t.Run(name, func(t *testing.T) {
			db, c := openTest(t)
			ctx := t.Context()
			user := register(t, db, c, "1").User.ID
			c.Advance(time.Hour)
			now := c.Now()
			at := func(beat time.Duration, seed string) {
				c.Advance(now.Add(beat).Sub(c.Now()))
				started(t, db, c, runOf(user, "agent-"+seed, seed))
			}
			for i := range many {
				at(-time.Hour, fmt.Sprint("known ", i))
			}
			at(-runs.Stale-time.Millisecond, "old")
			at(-runs.Stale, "fresh")
			at(runs.Stale, "near")
			at(runs.Stale+time.Millisecond, "far")
			c.Advance(now.Sub(c.Now()))
			for _, want := range []int{test.want, 0} {
				equal(t, must[int](t)(db.InterruptRuns(ctx, now.Add(test.stale), runs.Crashed, test.except...)), want)
			}
			for _, r := range must[[]runs.Record](t)(db.LastRuns(ctx, user)) {
				seed := r.ID[len("run-"):]
				running := test.kept[seed] || len(test.except) > 0 && len(seed) > 5 && seed[:5] == "known"
				if (r.Status == runs.Running) != running {
					t.Errorf("%s is %s", seed, r.Status)
				}
			}
			checkInvariants(t, db)
		})
	}
}

// An account that is disabled has no runs: none begins, and one that goes on is
// told to stop.
func TestRunOfTheDisabled(t *testing.T) {
	db, c := openTest(t)
	ctx := t.Context()
	user := register(t, db, c, "1").User
	r := started(t, db, c, runOf(user.ID, "brief", "1"))
	if _, _, err := db.DisableUser(ctx, "cedar-1", true, disabled); err != nil {
		t.Fatal(err)
	}
	stop, err := db.KeepEvents(ctx, r.ID, 0, everyKind)
	equal(t, []any{stop, err}, []any{true, error(nil)})
	equal(t, db.count(t, "SELECT count(*) FROM run_events"), len(everyKind))
	ended(t, db, r, len(everyKind))

	before := db.contents(t)
	next := runOf(user.ID, "brief", "2")
	_, err = db.StartRun(ctx, next, c.Now(), next.Entry())
	wantErr(t, err, runs.ErrNone)
	equal(t, db.contents(t), before)

	must[account.User](t)(db.EnableUser(ctx, "cedar-1", enabled))
	started(t, db, c, next)
	stop, err = db.KeepEvents(ctx, next.ID, 0, nil)
	equal(t, []any{stop, err}, []any{false, error(nil)})
	checkInvariants(t, db)
}

// A run ends when its account is disabled or erased, though nobody tells its
// server: its agent is told to stop.
func TestRunOfTheGone(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, db *DB, name string){
		"disabled": func(t *testing.T, db *DB, name string) {
			if _, _, err := db.DisableUser(t.Context(), name, true, disabled); err != nil {
				t.Fatal(err)
			}
		},
		"erased": func(t *testing.T, db *DB, name string) { erased(t, db, name, audit.Entry{Kind: audit.Erased}) },
	} {
		t.Run(name, func(t *testing.T) {
			url := fileURL(t)
			parts, stopped := make(chan string), make(chan error, 1)
			here, db := instance(t, url, time.Now, map[string]agent.Agent{
				"echo": agent.Emit(func(ctx context.Context, _ *agent.Input, emit func(agent.Event) error) error {
					for {
						select {
						case part := <-parts:
							if err := emit(agent.Event{Text: part}); err != nil {
								return err
							}
						case <-ctx.Done():
							stopped <- context.Cause(ctx)
							return ctx.Err()
						}
					}
				}),
			})
			outside := openAt(t, url, time.Now) // the command line has the database open too
			u := must[account.User](t)(db.Register(t.Context(), registration("1", time.Now()), registered("1")))
			run := here.Start(agent.User{ID: u.ID}, runs.Ask{})[0].Run
			parts <- "so far"
			leave(t, outside, u.Name)
			parts <- ", and more" // what is kept next is told
			equal(t, seen(t, run), "so far, and more interrupted")
			if err := <-stopped; err == nil {
				t.Error("its agent goes on")
			}
			if err := here.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			if all := here.Last(t.Context(), u.ID); (len(all) == 0) != (name == "erased") {
				t.Errorf("%d runs of the account are shown", len(all))
			}
			checkInvariants(t, db)
		})
	}
}

// What a killed server left does not hide a new run, though the clock went back.
func TestLeftAheadOfTheClock(t *testing.T) {
	url := fileURL(t)
	db := openAt(t, url, time.Now)
	u := must[account.User](t)(db.Register(t.Context(), registration("1", time.Now()), registered("1")))
	left := runOf(u.ID, "brief", "left")
	ahead := openAt(t, url, func() time.Time { return time.Now().Add(time.Hour) })
	must[runs.Record](t)(ahead.StartRun(t.Context(), left, time.Now(), left.Entry()))
	agents := map[string]agent.Agent{"brief": agent.Reply(func(context.Context, *agent.Input) (string, error) { return "again", nil })}
	now, _ := instance(t, url, time.Now, agents)
	equal(t, now.Last(t.Context(), u.ID)[0].Status(), runs.Interrupted)
	asked := now.Start(agent.User{ID: u.ID}, runs.Ask{})[0]
	equal(t, asked.Taken(t.Context()), true)
	equal(t, seen(t, asked.Run), "again done")

	// And one that goes on elsewhere is told of.
	busy := runOf(u.ID, "brief", "busy")
	written(t, db, asked.Run)
	must[runs.Record](t)(db.StartRun(t.Context(), busy, time.Now().Add(-runs.Stale), busy.Entry()))
	second := now.Start(agent.User{ID: u.ID}, runs.Ask{Prompt: "lost?"})[0]
	equal(t, second.Taken(t.Context()), false)
	equal(t, []string{second.ID(), second.Prompt(), second.Status()}, []string{busy.ID, busy.Prompt, runs.Running})
}

// What goes on here is not ended by the housekeeping here, whatever the clock did.
func TestHousekeepingAfterAJump(t *testing.T) {
	url := fileURL(t)
	c := newClock()
	release := make(chan struct{})
	here, db := instance(t, url, c.Now, map[string]agent.Agent{
		"brief": agent.Reply(func(context.Context, *agent.Input) (string, error) { <-release; return "done", nil }),
	})
	user := register(t, db, c, "1").User.ID
	left := started(t, db, c, runOf(user, "chat", "left"))
	asked := here.Start(agent.User{ID: user}, runs.Ask{})[0]
	if !asked.Taken(t.Context()) {
		t.Fatal("it is not written down")
	}
	c.Advance(time.Hour)
	equal(t, must[int](t)(here.EndStale(t.Context())), 1)
	r, _ := read(t, db, left.ID, 0)
	equal(t, r.Status, runs.Interrupted)
	close(release)
	equal(t, seen(t, asked.Run), "done done")
	written(t, db, asked.Run)
	r, _ = read(t, db, asked.ID(), 0)
	equal(t, r.Status, runs.Done)
	checkInvariants(t, db)
}
