//go:build unix

package mcp

import (
	"os/exec"
	"syscall"
)

const groups = true

// ownGroup makes cmd lead a process group, and end with all of it when its
// context is done.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}

// killGroup ends at once what is left of cmd's group, just after cmd itself has
// ended. Mostly that is nothing, and the error says so.
func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
