// Package bootstrap makes a minimal image straight from a distribution's signed package archive, with mmdebstrap: nothing in it
// comes from anybody but the distribution.
//
// The way of the data: a Request says what is wanted; Sources says where the packages come from and whose signature is asked for;
// mmdebstrap installs them into a tar archive; the survey reads that archive once, for the packages and their dates; the
// layer is the archive a second time, without what differs from run to run; Image writes layer, configuration and manifest
// as an archive that every engine loads. The same packages give the same bytes.
package bootstrap

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Request is what the user asks for.
type Request struct {
	Distribution   string   // debian, ubuntu
	Suite          string   // codename or alias, as the archive knows it
	Arch           string   // in dpkg's words; empty is this machine's
	Mirror         string   // archive; empty asks this machine's apt
	SecurityMirror string   // of the security pocket; empty asks apt, or is derived
	ImageMirror    string   // archive that the image's apt will use; empty is the one it was made from
	Snapshot       string   // time that stands for {snapshot} in mirrors: 20240131T000000Z
	Keyring        string   // file with the keys that may sign; empty is the distribution's
	Components     []string // empty is main
	Pockets        []string // updates, security
	Include        []string // further packages
	Variant        string
	Mode           string // how mmdebstrap gets its rights: auto, root, unshare
}

// Variants are the sets of packages to choose from, smallest first, with what they hold.
var Variants = []string{"custom", "essential", "apt", "minbase", "buildd", "important", "standard"}

var modes = []string{"auto", "root", "unshare", "fakechroot", "chrootless"}

// none stands for an empty list on the command line.
const none = "none"

// isWord says whether a string begins with a small letter or digit and goes on with these or marks.
func isWord(s, marks string) bool {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	return s != "" && strings.Trim(s, alphabet+marks) == "" && strings.Contains(alphabet, s[:1])
}

// ParseName reads DISTRO[:SUITE].
func (r *Request) ParseName(s string) error {
	name, suite, _ := strings.Cut(s, ":")
	d, ok := distributions[name]
	if !ok {
		return fmt.Errorf("cannot bootstrap %q: the distribution %q is not one of %s", s, name, strings.Join(names(), ", "))
	}
	if suite == "" || suite == "latest" {
		suite = d.latest
	}
	if suite == "" {
		return fmt.Errorf("cannot bootstrap %q: say which suite, as in %s", s, d.example)
	}
	if code := d.versions[suite]; code != "" {
		suite = code
	}
	if !isWord(suite, ".-") {
		return fmt.Errorf("cannot bootstrap %q: %q is no name of a suite; one looks like %s", s, suite, d.example)
	}
	r.Distribution, r.Suite = name, suite
	return nil
}

// Check completes a request and refuses what cannot be.
func (r *Request) Check() error {
	d := distributions[r.Distribution]
	if !slices.Contains(Variants, r.Variant) {
		return fmt.Errorf("invalid variant %q: must be one of %s", r.Variant, strings.Join(Variants, ", "))
	}
	if !slices.Contains(modes, r.Mode) {
		return fmt.Errorf("invalid mode %q: must be one of %s", r.Mode, strings.Join(modes, ", "))
	}
	for _, list := range [][]string{r.Include, r.Components} {
		for _, p := range list {
			if !isWord(p, "+.:~-") {
				return fmt.Errorf("invalid name %q of a package or component", p)
			}
		}
	}
	if r.Variant == "custom" && len(r.Include) == 0 {
		return errors.New("the variant custom holds nothing but --include: name a package")
	}
	if err := r.checkPockets(d); err != nil {
		return err
	}
	if err := r.checkMirrors(); err != nil {
		return err
	}
	if r.Keyring == "" {
		r.Keyring = d.keyring
		if _, err := os.Stat(r.Keyring); err != nil {
			return fmt.Errorf("the keys of %s are not on this machine (%s): install the package %s, or give a file of keys with --keyring", r.Distribution, d.keyring, d.keyPackage)
		}
	}
	if st, err := os.Stat(r.Keyring); err != nil {
		return fmt.Errorf("the keyring: %w", err)
	} else if !st.Mode().IsRegular() || st.Size() == 0 || st.Size() > maxKeyring {
		return fmt.Errorf("the keyring %s is not a file of keys", r.Keyring)
	}
	if len(r.Components) == 0 {
		r.Components = []string{"main"}
	}
	return nil
}

// checkPockets leaves the pockets that are wanted and that the suite has.
func (r *Request) checkPockets(d distribution) error {
	if len(r.Pockets) == 1 && r.Pockets[0] == none || slices.Contains(d.rolling, r.Suite) {
		r.Pockets = nil
	}
	for _, p := range r.Pockets {
		if p != "updates" && p != securityPocket {
			return fmt.Errorf("invalid pocket %q: must be updates, security or none", p)
		}
	}
	return nil
}

func (r *Request) checkMirrors() error {
	for _, m := range []*string{&r.Mirror, &r.SecurityMirror, &r.ImageMirror} {
		if *m == "" {
			continue
		}
		scheme, rest, ok := strings.Cut(*m, ":")
		if !ok || !slices.Contains([]string{"http", "https", "file", "copy"}, scheme) || strings.Trim(rest, "/") == "" || strings.ContainsAny(rest, " \t\n[]") {
			return fmt.Errorf("invalid mirror %q: must be an address as in apt's sources: http://, https:// or file:///", *m)
		}
	}
	const place = "{snapshot}"
	if r.Snapshot == "" {
		if strings.Contains(r.Mirror+r.SecurityMirror, place) {
			return errors.New("the mirror has a place for a time, {snapshot}: say which with --snapshot")
		}
		return nil
	}
	if _, err := time.Parse("20060102T150405Z", r.Snapshot); err != nil {
		return fmt.Errorf("invalid snapshot %q: must be a time like 20240131T000000Z", r.Snapshot)
	}
	if !strings.Contains(r.Mirror, place) {
		return errors.New("--snapshot needs the address of a snapshot service in --mirror, with {snapshot} in the place of the time")
	}
	r.Mirror = strings.ReplaceAll(r.Mirror, place, r.Snapshot)
	r.SecurityMirror = strings.ReplaceAll(r.SecurityMirror, place, r.Snapshot)
	return nil
}
