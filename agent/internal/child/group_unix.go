//go:build unix

package child

import (
	"os/exec"
	"syscall"
)

// Groups says whether the system has process groups.
const Groups = true

// Own makes cmd lead a process group, and end with all of it when its
// context is done.
func Own(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}

// Kill ends at once what is left of cmd's group, just after cmd itself has
// ended. Mostly that is nothing, and the error says so.
func Kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
