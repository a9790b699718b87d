package audit

import "slices"

// Kind names an act. The names are part of the contract: they are in the leaves
// of every log, and in every export.
type Kind string

// The acts that are recorded.
const (
	Registered      Kind = "account.registered"
	DuplicateUndone Kind = "account.duplicate_undone"
	Erased          Kind = "account.erased"
	Renamed         Kind = "account.renamed"
	Disabled        Kind = "account.disabled"
	Enabled         Kind = "account.enabled"
	GroupsSet       Kind = "account.groups_set"

	SignedIn        Kind = "session.signed_in"
	SignInRefused   Kind = "session.refused"
	SignedOut       Kind = "session.signed_out"
	SessionReplaced Kind = "session.replaced"
	SessionExpired  Kind = "session.expired"
	SessionRevoked  Kind = "session.revoked"
	SteppedUp       Kind = "session.stepped_up"

	PasskeyAdded          Kind = "passkey.added"
	PasskeyRenamed        Kind = "passkey.renamed"
	PasskeyRemoved        Kind = "passkey.removed"
	CounterAnomaly        Kind = "passkey.counter_anomaly"
	BackupEligibleChanged Kind = "passkey.backup_eligible_changed"

	InvitationMade Kind = "invitation.made"
	InvitationUsed Kind = "invitation.used"

	RecoveryMade      Kind = "recovery.made"
	RecoveryOffered   Kind = "recovery.offered"
	RecoveryBegun     Kind = "recovery.begun"
	RecoveryCancelled Kind = "recovery.cancelled"
	RecoveryCompleted Kind = "recovery.completed"

	RunStarted Kind = "run.started"
	RunEnded   Kind = "run.ended"

	ServerStarted Kind = "server.started"
	TrailExported Kind = "trail.exported"
	TrailReopened Kind = "trail.reopened"
)

// Event is a row of the table of acts.
type Event struct {
	Kind     Kind
	Meaning  string // for operators: what happened, and what reason and detail hold
	Words    string // for the person whose act it is, to be followed by "with …, from …"; empty where they are not told
	Alarming bool   // the person should look at it
}

// Events returns the table of acts: every kind, once.
func Events() []Event { return slices.Clone(events[:]) }

var events = [...]Event{
	{Registered, "an account and its first passkey were made", "Made this account", false},
	{DuplicateUndone, "an account made by accident was removed, with its payloads, by the press of an older account: the actor", "Removed an account made by accident", false},
	{Erased, "an account was erased: its passkeys, sessions, payloads and key are gone; `reason` says from where", "Erased an account", false},
	{Renamed, "an account got another name; `detail` has both", "Renamed this account", false},
	{Disabled, "an operator disabled the account: its sessions ended, and nobody can sign in to it", "An operator disabled this account", true},
	{Enabled, "an operator enabled the account again", "An operator enabled this account again", false},
	{GroupsSet, "an operator set the groups of the account; `detail` has what they were and are", "An operator set your groups", true},

	{SignedIn, "a passkey opened a session", "Signed in", false},
	{SignInRefused, "a press was refused; `reason` is its class. Repeated ones from one network, of one account or of nobody, are one entry a minute with their `count`; of several classes, `reason` is `several` and `detail` counts each", "An attempt to sign in was refused", true},
	{SignedOut, "the person ended the session", "Signed out", false},
	{SessionReplaced, "a session ended because its browser signed in again", "Left a session by signing in again", false},
	{SessionExpired, "a session ended by itself; `reason` is `idle` or `cap`", "A session ran out", false},
	{SessionRevoked, "a session was ended from another one, with its passkey, by a recovery, by an operator, or as one too many; `reason` says which", "Ended a session", false},
	{SteppedUp, "a passkey was used for a sensitive act, which the entries after it tell, if it changed anything: the session went on under a new id; `detail` has the old one's hash", "", false},

	{PasskeyAdded, "another passkey was added to an account", "Added a passkey", true},
	{PasskeyRenamed, "a passkey got another name", "Renamed a passkey", false},
	{PasskeyRemoved, "a passkey was removed from an account", "Removed a passkey", true},
	{CounterAnomaly, "the signature counter of a synced passkey did not rise: a copy may exist", "Your passkey miscounted its uses", true},
	{BackupEligibleChanged, "a passkey that was bound to its device became one that can be synced", "Your passkey can now be synced", false},

	{InvitationMade, "an invitation was made; `reason` says from where, `detail` has the groups that it gives", "Invited someone", false},
	{InvitationUsed, "an invitation was used; `detail` has the groups that it gave", "Used an invitation", false},

	{RecoveryMade, "an owner made a recovery link: the entry after it says for whom", "Made a recovery link for someone", false},
	{RecoveryOffered, "a link was made by which the account can be recovered; `reason` says from where. A link of before, and what came of it, is void", "An owner made a recovery link for this account", true},
	{RecoveryBegun, "a recovery link was used: its passkey opens the account after the delay", "Someone began to recover this account", true},
	{RecoveryCancelled, "a recovery that waited was cancelled, and its passkey removed; `reason` says how", "The recovery of this account was cancelled", false},
	{RecoveryCompleted, "the passkey of a recovery opened the account for the first time, and all other sessions ended", "This account was recovered with a new passkey", true},

	{RunStarted, "an agent began a run; `detail` has the agent's name and the run's id", "", false},
	{RunEnded, "a run ended; `reason` is how, `detail` has the agent's name and the run's id", "", false},

	{ServerStarted, "Bio started; `detail` has its version, the ids of its keys, and the settings that decide who gets in", "", false},
	{TrailExported, "the trail was exported; `detail` has the period", "", false},
	{TrailReopened, "a new log was opened on what is left of one that was broken; `detail` has the checkpoint that could not be met, and what was found", "", false},
}

// Event returns the kind's row; one that only says the kind, for a kind that
// this version does not know.
func (k Kind) Event() Event {
	for _, e := range events {
		if e.Kind == k {
			return e
		}
	}
	return Event{Kind: k, Meaning: "of another version", Words: string(k)}
}
