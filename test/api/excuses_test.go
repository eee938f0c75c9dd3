package api

import (
	"regexp"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

// excuse is a known difference between an answer and the description of its version.
type excuse struct {
	operation *regexp.Regexp
	place     *regexp.Regexp // of the complaint, e.g. "$.Warnings: …"
	below     string         // for versions before this one; empty for all
	why       string
}

func ex(operation, place, below, why string) excuse {
	return excuse{regexp.MustCompile("^" + operation + "$"), regexp.MustCompile("^" + place), below, why}
}

const (
	goNull   = "the wire types of the API module give null where nothing is set, in every engine"
	sketchy  = "the descriptions before 1.40 left this out, the version history names no later beginning"
	unstated = "unversioned, says the version history: all versions have it"
)

var excuses = []excuse{
	ex("GET /containers/{id}/json", `\$\.HostConfig\.MemorySwappiness: null`, "", goNull),
	ex("GET /containers/{id}/json", `\$\.ExecIDs: null`, "1.40", goNull),
	ex("GET /exec/{id}/json", `\$\.ExitCode: null`, "", goNull),
	ex("GET /events", `\$\.(status|id|from): the description has no`, "1.52", "gone since 1.22 by the description, sent up to 1.51 by the version history"),
	ex("GET /events", `\$\.scope: the`, "1.40", sketchy),
	ex("GET /system/df", `\$\.(LayersSize|Images|Containers|Volumes|BuildCache): the description has no`, "1.53", "1.52 has both forms, says the version history, its description has the new one only"),
	ex("GET /networks(/{id})?", `\$(\[\d+\])?\.Config(From|Only): the`, "1.41", "since 1.30 by the version history, described since 1.41"),
	ex("GET /info", `\$\.OSVersion: the`, "1.41", unstated),
	ex("GET /info", `\$\.[A-Za-z.0-9]+: the description has no such field`, "1.40", sketchy),
	ex("GET /containers/{id}/json", `\$\.(NetworkSettings|State|Config)\.[A-Za-z.0-9/]+: the description has no such field`, "1.40", sketchy),
	ex("GET /containers/{id}/json", `\$\.NetworkSettings\.Ports: map`, "1.40", "described as a list, always a map"),
	ex("GET /containers/{id}/json", `\$\.HostConfig\.PortBindings\.[0-9a-z/]+: \[\]interface`, "1.40", "described as an object, always a list"),
	ex("GET /containers/{id}/json", `\$\.HostConfig\.RestartPolicy\.Name: "no"`, "1.40", "\"no\" was described as \"\""),
	ex("GET /exec/{id}/json", `\$\.(CanRemove|DetachKeys): the`, "1.40", sketchy),
}

func excused(version, operation, complaint string) string {
	for _, x := range excuses {
		if x.below != "" && (version == "" || !httpapi.VersionLess(version, x.below)) {
			continue
		}
		if x.operation.MatchString(operation) && x.place.MatchString(complaint) {
			return x.why
		}
	}
	return ""
}
