package main

import "bio/agent"

// hook is the agent that this binary runs after a sign-in; nil is the one in the
// box, brief. To run your own, set it here.
var hook agent.Agent
