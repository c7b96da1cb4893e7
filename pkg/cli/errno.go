package cli

import "errors"

// InUse reports whether err says that an address to listen at is in use.
func InUse(err error) bool { return errors.Is(err, errInUse) }

// Refused reports whether err says that nothing listens at an address.
func Refused(err error) bool { return errors.Is(err, errRefused) }
