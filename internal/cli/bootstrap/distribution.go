package bootstrap

import (
	"maps"
	"slices"
)

const (
	securityPocket = "security"
	maxKeyring     = 4 << 20      // bytes
	armored        = "-----BEGIN" // a file of keys that is text begins so
)

// distribution is what has to be known of one before anything is asked.
type distribution struct {
	origin     string // in its Release files
	keyring    string // file with its archive's keys
	keyPackage string // package that has it, here and in the image
	latest     string // alias of the newest release; empty has none
	example    string
	rolling    []string          // suites without pockets
	versions   map[string]string // release number → codename
	security   func(mirror string) (string, bool)
}

var distributions = map[string]distribution{
	"debian": {
		origin: "Debian", keyring: "/usr/share/keyrings/debian-archive-keyring.gpg", keyPackage: "debian-archive-keyring",
		latest: "stable", example: "debian:bookworm", rolling: []string{"sid", "unstable", "experimental"},
		versions: map[string]string{"10": "buster", "11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky", "15": "duke"},
		security: debianSecurity,
	},
	"ubuntu": {
		origin: "Ubuntu", keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg", keyPackage: "ubuntu-keyring (on Debian from release 13 on: ubuntu-archive-keyring)",
		example: "ubuntu:noble", rolling: []string{"devel"},
		versions: map[string]string{"18.04": "bionic", "20.04": "focal", "22.04": "jammy", "24.04": "noble", "24.10": "oracular", "25.04": "plucky", "25.10": "questing"},
		security: func(mirror string) (string, bool) { return mirror, true },
	},
}

// Known are the distributions with their suites, as a user names them, in order.
func Known() (list []string) {
	for name, d := range distributions {
		for _, suite := range d.versions {
			list = append(list, name+":"+suite)
		}
	}
	slices.Sort(list)
	return list
}

func names() []string { return slices.Sorted(maps.Keys(distributions)) }

// goArch gives an architecture of dpkg's in the words of image configurations.
func goArch(dpkg string) (arch, variant string) {
	switch dpkg {
	case "armhf":
		return "arm", "v7"
	case "armel":
		return "arm", "v5"
	case "arm64":
		return "arm64", "v8"
	case "i386":
		return "386", ""
	case "ppc64el":
		return "ppc64le", ""
	case "mips64el":
		return "mips64le", ""
	}
	return dpkg, ""
}
