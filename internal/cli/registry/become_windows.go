package registry

import "errors"

// become is for Linux, where the registry runs.
func become(string, []string, []string) error {
	return errors.New("a private registry runs on Linux only")
}
