package hostile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// low is the command that runs another one as an attacker. The lowest priority is SCHED_IDLE
// (sched(7)): whoever else wakes up has the processor at once. With nice alone the kernel lets
// an attacker first finish its slice of a millisecond or more, which would be measured as if
// the mesh had taken it.
func low() []string {
	argv := []string{"nice", "-n", strconv.Itoa(*lowest)} // the session's, too: lowerSession
	if *lowest == lowestNice {
		argv = append(argv, "chrt", "--idle", "0")
	}
	return argv
}

// lowestNice is the flag's default.
const lowestNice = 19

// autogroup has the priority of a session, where the kernel shares the processors between
// sessions first (sched(7), "The autogroup feature"), and is not there otherwise.
const autogroup = "/proc/self/autogroup"

// lowerSession gives this process a session of its own, with the process's own priority. nice
// alone counts within a session: the agents have others, and an attacker would have as much
// of the processors as each of them. Processes of pods are in cgroups, for which the kernel
// has no sessions.
func lowerSession() error {
	if _, err := os.Stat(autogroup); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return fmt.Errorf("own priority: %w", err)
	}
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("a session of its own: %w", err)
	}
	if err := os.WriteFile(autogroup, []byte(strconv.Itoa(20-raw)), 0); err != nil {
		return fmt.Errorf("priority of the session: %w", err)
	}
	return nil
}
