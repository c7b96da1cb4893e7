package host

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// shareNetnsDir makes dir a mount point whose mounts all mount namespaces share, as
// `ip netns add` does before it makes its first name (netns_add in ip/ipnetns.c of
// iproute2). Otherwise the next `ip netns add` on the machine does it: it puts a mount over
// the names that are in dir, and these cannot be removed any more (EBUSY), because only a
// copy of what is mounted on them can be unmounted.
//
// For that reason shareNetnsDir leaves dir as it is where others have names in it already.
// It holds the lock that iproute2 takes, so that two programs do not put a mount each over
// dir. The mount stays, as iproute2's does.
func shareNetnsDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // and unlock
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if err != unix.EINVAL { // EINVAL: it is no mount point
		return shareError(dir, err)
	}
	if names, _ := d.Readdirnames(1); len(names) > 0 {
		return nil
	}
	if err := unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return shareError(dir, err)
	}
	return shareError(dir, unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, ""))
}

func shareError(dir string, err error) error {
	if err != nil {
		return fmt.Errorf("make %s a shared mount: %w", dir, err)
	}
	return nil
}
