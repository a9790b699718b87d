package main

import "bio/agent"

// agents are those of this binary, which work after a sign-in in place of brief,
// the one in the box. To run your own, register them in an init function:
//
//	func init() { agents.Handle("greeter", agent.Emit(greet)) }
var agents agent.Registry
