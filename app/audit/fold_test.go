package audit

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func refusal(network, actor, reason string) Entry {
	return Entry{Kind: SignInRefused, Actor: actor, Reason: reason, Client: Client{Network: network, Browser: "Firefox", System: "Linux"}}
}

// stands is for how many acts an entry stands.
func stands(e Entry) int { return max(e.Count, 1) }

func total(entries []Entry) (n int) {
	for _, e := range entries {
		n += stands(e)
	}
	return n
}

// sameEntries compares entries in any order.
func sameEntries(t *testing.T, name string, got, want []Entry) {
	t.Helper()
	text := func(list []Entry) (s []string) {
		for _, e := range list {
			s = append(s, fmt.Sprintf("%+v", e))
		}
		slices.Sort(s)
		return s
	}
	if !slices.Equal(text(got), text(want)) {
		t.Errorf("%s:\n%q, want\n%q", name, text(got), text(want))
	}
}

func TestFold(t *testing.T) {
	const n = "203.0.113.0/24"
	var f Fold
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	add := func(second int, e Entry, recorded bool) {
		t.Helper()
		if got := f.Add(e, at(second)); got != recorded {
			t.Errorf("second %d: recorded %v", second, got)
		}
	}
	due := func(second int, want ...Entry) {
		t.Helper()
		sameEntries(t, fmt.Sprintf("second %d", second), f.Due(at(second)), want)
	}
	counted := func(e Entry, count int) Entry {
		e.Count = count
		return e
	}

	due(0)
	add(0, refusal(n, "", "unknown"), true)
	due(59)
	add(59, refusal(n, "", "unknown"), false)
	add(59, refusal(n, "", "unknown"), false)
	add(59, refusal("198.51.100.0/24", "", "unknown"), true) // of another network
	add(59, refusal(n, "user-a", "unknown"), true)           // of someone
	add(59, refusal(n, "user-b", "unknown"), true)           // of someone else
	due(60, counted(refusal(n, "", "unknown"), 2))
	due(60)

	// Who goes on has one entry a minute.
	add(61, refusal(n, "", "unknown"), false)
	due(119)
	due(120, counted(refusal(n, "", "unknown"), 1)) // the others had but one, and are forgotten
	add(121, refusal(n, "", "unknown"), false)
	add(121, refusal(n, "user-a", "unknown"), true)
	due(179)
	due(181, counted(refusal(n, "", "unknown"), 1))

	// Who stops for a minute begins again.
	due(241)
	due(241)
	add(242, refusal(n, "", "unknown"), true)
}

// A folded entry says what all of its acts have in common.
func TestFolded(t *testing.T) {
	full := Entry{
		Kind: SignInRefused, Actor: "user-a", Subject: "user-s", Credential: "0123", Session: "session", Reason: "signature",
		Client: Client{"203.0.113.0/24", "Firefox", "Linux"}, Detail: map[string]string{"a": "b"},
	}
	with := func(change func(*Entry)) Entry {
		e := full
		change(&e)
		return e
	}
	for _, tt := range []struct {
		name string
		add  []Entry
		want Entry
	}{
		{"the same", []Entry{full, full, full}, with(func(e *Entry) { e.Count = 3 })},
		{"one", []Entry{full}, with(func(e *Entry) { e.Count = 1 })},
		{"another passkey", []Entry{full, with(func(e *Entry) { e.Credential = "4567" })}, with(func(e *Entry) { e.Count, e.Credential = 2, "" })},
		{"no passkey, then one", []Entry{with(func(e *Entry) { e.Credential = "" }), full}, with(func(e *Entry) { e.Count, e.Credential = 2, "" })},
		{"a passkey twice after another", []Entry{with(func(e *Entry) { e.Credential = "4567" }), full, full}, with(func(e *Entry) { e.Count, e.Credential = 3, "" })},
		{"another session", []Entry{full, with(func(e *Entry) { e.Session = "other" })}, with(func(e *Entry) { e.Count, e.Session = 2, "" })},
		{"another subject", []Entry{full, with(func(e *Entry) { e.Subject = "other" })}, with(func(e *Entry) { e.Count, e.Subject = 2, "" })},
		{"another browser", []Entry{full, with(func(e *Entry) { e.Client.Browser = "Chrome" })}, with(func(e *Entry) { e.Count, e.Client.Browser = 2, "" })},
		{"another system", []Entry{full, with(func(e *Entry) { e.Client.System = "" })}, with(func(e *Entry) { e.Count, e.Client.System = 2, "" })},
		{"another detail", []Entry{full, with(func(e *Entry) { e.Detail = map[string]string{"a": "c"} })}, with(func(e *Entry) { e.Count, e.Detail = 2, nil })},
		{
			"several reasons", []Entry{full, with(func(e *Entry) { e.Reason = "expired" }), with(func(e *Entry) { e.Reason = "expired" })},
			with(func(e *Entry) {
				e.Count, e.Reason, e.Detail = 3, "several", map[string]string{"signature": "1", "expired": "2"}
			}),
		},
	} {
		var f Fold
		f.Add(full, began) // opens the window, and is no part of it
		for _, e := range tt.add {
			if f.Add(e, began) {
				t.Errorf("%s: recorded", tt.name)
			}
		}
		sameEntries(t, tt.name, f.All(began), []Entry{tt.want})
	}
	if !maps.Equal(full.Detail, map[string]string{"a": "b"}) {
		t.Error("the caller's detail was changed")
	}
}

// Each refusal is in one entry, however many networks there are; and those that
// are recorded at once are bounded.
func TestFoldOverflow(t *testing.T) {
	var f Fold
	var recorded, folded []Entry
	const networks, rounds = 10_000, 3
	for range rounds {
		for i := range networks {
			if e := refusal(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), "", "unknown"); f.Add(e, began) {
				recorded = append(recorded, e)
			}
		}
	}
	if len(recorded) != maxFolds+1 || len(f.windows) != maxFolds+1 {
		t.Errorf("%d are recorded at once, %d told apart", len(recorded), len(f.windows))
	}

	// A person is not hidden in the crowd.
	for _, id := range []string{"user-a", "user-b"} {
		if !f.Add(refusal("10.200.0.0/24", id, "signature"), began) {
			t.Errorf("the first refusal of %s is folded", id)
		}
		if f.Add(refusal("10.201.0.0/24", id, "signature"), began) {
			t.Errorf("the second refusal of %s, from another network, is not folded", id)
		}
	}
	folded = f.Due(began.Add(foldFor))
	if got := total(recorded) + total(folded); got != networks*rounds+2 {
		t.Errorf("%d refusals are in entries, want %d", got, networks*rounds+2)
	}
	// The hour's entries are spent: the other networks have joined the shared one.
	if len(folded) != maxNobody-maxFolds+1+2 {
		t.Errorf("%d entries of a minute", len(folded))
	}
	for _, e := range folded {
		switch {
		case e.Actor != "":
			if e.Count != 1 || e.Client.Network != "10.201.0.0/24" {
				t.Errorf("of a person: %+v", e)
			}
		case e.Client.Network == "":
			if e.Count != (networks-maxFolds)*rounds-1+(2*maxFolds-maxNobody)*(rounds-1) {
				t.Errorf("of all others: %+v", e)
			}
		case e.Count != rounds-1:
			t.Errorf("of a network: %+v", e)
		}
	}

	// When the crowd is gone, networks are told apart again.
	for n := range 3 {
		if late := f.Due(began.Add(time.Duration(n+2) * foldFor)); len(late) > 0 {
			t.Errorf("%+v comes from nothing", late)
		}
	}
	if len(f.windows) != 0 || !f.Add(refusal("10.0.0.0/24", "", "unknown"), began.Add(time.Hour)) {
		t.Errorf("%d windows are left", len(f.windows))
	}
}

// Whoever has a network for each attempt fills no disk, and all are counted.
func TestFoldNobody(t *testing.T) {
	const networks, hours = 100_000, 10
	random := rand.New(rand.NewPCG(1, 2))
	var f Fold
	var entries []Entry
	added, named := 0, 0
	for second := range hours * 3600 {
		now := began.Add(time.Duration(second) * time.Second)
		for range 3 {
			e := refusal(strconv.Itoa(random.IntN(networks)), "", "unknown")
			added++
			if f.Add(e, now) {
				entries = append(entries, e)
			}
		}
		if second%600 == 599 { // a person is told apart all the while
			e := refusal(strconv.Itoa(random.IntN(networks)), "user-a", "signature")
			named++
			if !f.Add(e, now) {
				t.Fatalf("second %d: the refusal of a person is folded", second)
			}
		}
		if second%10 == 0 {
			entries = append(entries, f.Due(now)...)
		}
		if len(f.windows) > maxFolds+2 {
			t.Fatalf("second %d: %d windows", second, len(f.windows))
		}
	}
	entries = append(entries, f.All(began.Add(hours*time.Hour))...)
	if got := total(entries); got != added {
		t.Errorf("%d refusals are in entries, want %d", got, added)
	}
	if most := hours*(maxNobody+60) + maxFolds; len(entries) > most {
		t.Errorf("%d entries, want at most %d", len(entries), most)
	}
	if named != 6*hours {
		t.Errorf("%d refusals of a person", named)
	}
	for _, e := range entries {
		if e.Actor != "" {
			t.Errorf("of nobody: %+v", e)
		}
	}

	// The next hour a network is told at once again.
	later := began.Add((hours + 2) * time.Hour)
	f.Due(later)
	if !f.Add(refusal("203.0.113.0/24", "", "unknown"), later) {
		t.Error("a single network is folded when there is room")
	}
}

// When the hour's entries are spent, those that name nobody share one, whether they
// come anew or have waited by themselves; those of a person do not.
func TestFoldShared(t *testing.T) {
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	counted := func(e Entry, count int) Entry {
		e.Count = count
		return e
	}
	// spent has room for left entries more, and nobody's window is open.
	spent := func(left int) *Fold {
		var f Fold
		for i := range maxNobody - left {
			if !f.Add(refusal("n"+strconv.Itoa(i), "", "unknown"), began) {
				t.Fatalf("network %d is folded", i)
			}
			f.windows = nil
		}
		return &f
	}
	other := func(e Entry) Entry { e.Client.Browser = "Chrome"; return e }
	shared := func(network, reason string, count int) Entry { return counted(refusal(network, "", reason), count) }
	for _, tt := range []struct {
		name string
		left int
		add  []Entry
		at   []bool // recorded at once
		due  []Entry
	}{
		{
			"room for all", 2, []Entry{refusal("a", "", "x"), refusal("b", "", "x")}, []bool{true, true}, nil,
		},
		{
			"room for one", 1, []Entry{refusal("a", "", "x"), refusal("b", "", "x"), refusal("c", "", "x"), refusal("d", "", "x")},
			[]bool{true, true, false, false}, []Entry{shared("", "x", 2)},
		},
		{
			"one network goes on", 0, []Entry{refusal("a", "", "x"), refusal("a", "", "x"), refusal("a", "", "x")},
			[]bool{true, false, false}, []Entry{shared("a", "x", 2)},
		},
		{
			"several reasons and browsers", 0, []Entry{refusal("a", "", "x"), refusal("b", "", "x"), other(refusal("c", "", "y")), refusal("d", "", "y")},
			[]bool{true, false, false, false}, []Entry{{
				Kind: SignInRefused, Reason: "several", Client: Client{System: "Linux"}, Count: 3, Detail: map[string]string{"x": "1", "y": "2"},
			}},
		},
		{
			"a network that waited by itself joins", 1,
			[]Entry{refusal("a", "", "x"), refusal("a", "", "x"), refusal("a", "", "x"), refusal("a", "", "y"), refusal("b", "", "x"), refusal("c", "", "x")},
			[]bool{true, false, false, false, true, false}, []Entry{{
				Kind: SignInRefused, Reason: "several", Client: Client{Browser: "Firefox", System: "Linux"}, Count: 4, Detail: map[string]string{"x": "3", "y": "1"},
			}},
		},
		{
			"persons are told apart", 0,
			[]Entry{refusal("a", "user-a", "x"), refusal("a", "user-a", "x"), refusal("b", "user-b", "x"), refusal("c", "user-b", "x"), refusal("a", "", "x"), refusal("a", "", "x")},
			[]bool{true, false, true, true, true, false}, []Entry{counted(refusal("a", "user-a", "x"), 1), shared("a", "x", 1)},
		},
		{
			"persons take no room", 1,
			[]Entry{refusal("a", "user-a", "x"), refusal("b", "user-b", "x"), refusal("a", "", "x"), refusal("b", "", "x"), refusal("c", "", "x")},
			[]bool{true, true, true, true, false}, []Entry{shared("c", "x", 1)},
		},
	} {
		for range 20 { // in any order of the windows
			f := spent(tt.left)
			for i, e := range tt.add {
				if f.Add(e, at(1)) != tt.at[i] {
					t.Errorf("%s: %d: recorded %v", tt.name, i, !tt.at[i])
				}
			}
			sameEntries(t, tt.name, f.Due(at(61)), tt.due)
			sameEntries(t, tt.name+", later", f.Due(at(121)), nil)
		}
	}

	// One that waits when nobody else does opens the shared window, and loses nothing.
	f := spent(1)
	f.Add(refusal("a", "", "x"), at(1))
	f.Add(refusal("a", "", "x"), at(2))
	sameEntries(t, "of a window that is over", f.Due(at(61)), nil)
	f.Add(refusal("b", "", "x"), at(62))
	sameEntries(t, "in the shared one", f.Due(at(121)), []Entry{shared("", "x", 2)})

	// At the end nothing is shared that need not be.
	f = spent(2)
	for range 2 {
		f.Add(refusal("a", "", "x"), at(1))
		f.Add(refusal("b", "", "x"), at(1))
	}
	sameEntries(t, "at the end", f.All(at(3)), []Entry{shared("a", "x", 1), shared("b", "x", 1)})

	// The next hour has its own.
	f = spent(0)
	for _, second := range []int{3599, 3600} {
		f.windows = nil
		f.Add(refusal("a", "", "x"), at(second))
		if recorded := f.Add(refusal("b", "", "x"), at(second)); recorded != (second == 3600) {
			t.Errorf("second %d: recorded %v", second, recorded)
		}
	}
	f = spent(0)
	f.Add(refusal("a", "", "x"), at(-3600))
	if !f.Add(refusal("b", "", "x"), at(-3600)) {
		t.Error("a clock that was put back holds the hour up")
	}
}

// A clock that is put back holds nothing up.
func TestFoldClockBack(t *testing.T) {
	var f Fold
	e := refusal("203.0.113.0/24", "", "unknown")
	f.Add(e, began)
	f.Add(e, began.Add(-24*time.Hour))
	if due := f.Due(began.Add(-24 * time.Hour)); total(due) != 1 || len(due) != 1 {
		t.Errorf("%+v", due)
	}
	f.Add(e, began.Add(-24*time.Hour))
	if due := f.Due(began.Add(-24*time.Hour + foldFor)); total(due) != 1 || len(due) != 1 {
		t.Errorf("%+v", due)
	}
}

func TestFoldAll(t *testing.T) {
	var f Fold
	if all := f.All(began); all != nil {
		t.Errorf("of nothing: %+v", all)
	}
	for i := range 5 {
		for range i + 1 {
			f.Add(refusal("n"+strconv.Itoa(i), "", "unknown"), began)
		}
	}
	if all := f.All(began); len(all) != 4 || total(all) != 1+2+3+4 {
		t.Errorf("%+v", all)
	}
	if all := f.All(began); all != nil {
		t.Errorf("again: %+v", all)
	}
}

// Nothing is lost and nothing counted twice, whatever comes when.
func TestFoldCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f Fold
		now, given, taken := began, map[string]int{}, map[string]int{}
		take := func(entries ...Entry) {
			for _, e := range entries {
				taken[e.Actor] += stands(e)
			}
		}
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(-10, 30).Draw(t, "seconds")) * time.Second)
			switch rapid.IntRange(0, 20).Draw(t, "step") {
			case 0:
				take(f.Due(now)...)
			case 1:
				take(f.All(now)...)
			default:
				e := refusal(strconv.Itoa(rapid.IntRange(0, 2*maxFolds).Draw(t, "network")), rapid.SampledFrom([]string{"", "", "user-a", "user-b"}).Draw(t, "actor"), rapid.SampledFrom([]string{"", "unknown", "expired"}).Draw(t, "reason"))
				given[e.Actor]++
				if f.Add(e, now) {
					take(e)
				}
			}
		}
		take(f.All(now)...)
		if !maps.Equal(given, taken) {
			t.Fatalf("given %v, taken %v", given, taken)
		}
	})
}

func TestFoldConcurrently(t *testing.T) {
	const workers, each = 8, 500
	var f Fold
	var counts [workers]int
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				e := refusal(strconv.Itoa(i%7), "", strconv.Itoa(w%2))
				if f.Add(e, began) {
					counts[w]++
				}
				if i%50 == 0 {
					counts[w] += total(f.Due(began.Add(foldFor)))
				}
			}
		})
	}
	group.Wait()
	sum := total(f.All(began))
	for _, n := range counts {
		sum += n
	}
	if sum != workers*each {
		t.Errorf("%d refusals are in entries, want %d", sum, workers*each)
	}
}
