package main

import (
	"log/slog"

	"github.com/moby/profiles/apparmor"
)

// appArmorProfile is the name under which the default profile is loaded.
const appArmorProfile = "gantry-default"

// defaultAppArmor is the profile of containers that name none: the field's default profile,
// loaded with the daemon unless it is there (that takes the program apparmor_parser). A host
// without AppArmor, or on which the profile cannot be loaded, has none: a container whose
// profile the kernel does not know would not start.
func defaultAppArmor(log *slog.Logger, enabled bool) string {
	if !enabled {
		return ""
	}
	if loaded, err := apparmor.IsLoaded(appArmorProfile); err == nil && loaded {
		return appArmorProfile
	}
	if err := apparmor.InstallDefault(appArmorProfile); err != nil {
		log.Warn("the default AppArmor profile could not be loaded: containers run without one", "profile", appArmorProfile, "error", err)
		return ""
	}
	return appArmorProfile
}
