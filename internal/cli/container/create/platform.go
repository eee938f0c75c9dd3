package create

import (
	"fmt"
	"slices"
	"strings"
)

// normalizePlatform completes os[/arch[/variant]] as a user writes it; empty stays empty.
func normalizePlatform(p string) (string, error) {
	if p == "" {
		return "", nil
	}
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("error parsing specified platform: %q: %s: invalid argument", p, why)
	}
	parts := strings.Split(strings.ToLower(p), "/")
	if len(parts) > 3 || slices.Contains(parts, "") {
		return bad("cannot parse platform specifier")
	}
	arch := map[string]string{"x86_64": "amd64", "x86-64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armhf": "arm/v7", "armel": "arm/v6",
		"i386": "386", "386": "386", "arm": "arm/v7", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64", "mips64le": "mips64le", "loong64": "loong64"}
	if len(parts) == 1 {
		switch {
		case parts[0] == "linux" || parts[0] == "windows" || parts[0] == "darwin" || parts[0] == "freebsd":
			return parts[0], nil
		case arch[parts[0]] != "":
			return "linux/" + arch[parts[0]], nil
		}
		return bad("unknown operating system or architecture")
	}
	if n, ok := arch[parts[1]]; ok && len(parts) == 2 {
		parts[1] = n
	} else if ok {
		parts[1], _, _ = strings.Cut(n, "/")
	}
	if parts[1] == "arm64" && len(parts) == 3 && parts[2] == "8" {
		parts[2] = "v8"
	}
	return strings.Join(parts, "/"), nil
}
