// Package system serves /info, /version and /system/df.
package system

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	service "github.com/gantry-engine/gantry/internal/service/system"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Service is what the routes need.
type Service interface {
	Info(ctx context.Context) system.Info
	Version() system.VersionResponse
	DiskUsage(ctx context.Context, kinds []string) (service.Usage, error)
	Disk(ctx context.Context) (spec.DiskUse, error)
	Fsck(ctx context.Context, repair bool, tell func(spec.CheckStep)) error
}

type router struct{ s Service }

// New makes the routes.
func New(s Service) httpapi.Router { return router{s} }

// The fields that came later, by the version history of the Engine API.
var (
	infoFields = []httpapi.Field{
		{Path: "GenericResources", Since: "1.32"}, {Path: "Warnings", Since: "1.39"}, {Path: "PidsLimit", Since: "1.40"},
		{Path: "CgroupVersion", Since: "1.41"}, {Path: "DefaultAddressPools", Since: "1.41"}, {Path: "CDISpecDirs", Since: "1.44"},
		{Path: "Runtimes.*.status", Since: "1.44"}, {Path: "Containerd", Since: "1.46"},
		{Path: "DiscoveredDevices", Since: "1.50"}, {Path: "NRI", Since: "1.53"},
	}
	versionFields = []httpapi.Field{{Path: "MinAPIVersion", Since: "1.25"}, {Path: "Platform", Since: "1.35"}, {Path: "Components", Since: "1.35"}}
	dfFields      = []httpapi.Field{
		{Path: "BuildCache", Since: "1.31"}, {Path: "Volumes.CreatedAt", Since: "1.31"}, {Path: "Images.Descriptor", Since: "1.48"}, {Path: "Images.Manifests", Since: "1.47"},
		{Path: "Containers.HostConfig.Annotations", Since: "1.46"}, {Path: "Containers.ImageManifestDescriptor", Since: "1.48"}, {Path: "Containers.Health", Since: "1.52"},
	}
)

func (rt router) Routes() []httpapi.Route {
	return []httpapi.Route{
		{Method: http.MethodGet, Path: "/info", Handler: rt.info, Fields: infoFields},
		{Method: http.MethodGet, Path: "/version", Handler: rt.version, Fields: versionFields},
		{Method: http.MethodGet, Path: "/system/df", Handler: rt.df, Since: "1.25", Fields: dfFields},
		{Method: http.MethodGet, Path: "/system/disk", Handler: rt.disk},  // Gantry's own
		{Method: http.MethodPost, Path: "/system/fsck", Handler: rt.fsck}, // Gantry's own
	}
}

// fsck streams JSON objects, one a line: each a spec.CheckStep.
func (rt router) fsck(ctx context.Context, w http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	enc := json.NewEncoder(w)
	begun := false
	err := rt.s.Fsck(ctx, httpapi.Bool(r, "repair"), func(s spec.CheckStep) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		_ = enc.Encode(s)
		_ = http.NewResponseController(w).Flush()
	})
	return err
}

func (rt router) disk(ctx context.Context, w http.ResponseWriter, _ *http.Request, _ httpapi.Vars) error {
	u, err := rt.s.Disk(ctx)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, u)
}

// oldInfo carries fields that later versions dropped.
type oldInfo struct {
	system.Info
	BridgeNfIptables  *bool `json:",omitempty"`
	BridgeNfIP6tables *bool `json:"BridgeNfIp6tables,omitempty"`
}

// olderInfo has what went with 1.49: the versions that were expected beside those that are
// there, and two registry settings that had become void.
type olderInfo struct {
	oldInfo
	RegistryConfig                           oldRegistries
	ContainerdCommit, RuncCommit, InitCommit oldCommit
}

type oldCommit struct{ ID, Expected string }

type oldRegistries struct {
	*registry.ServiceConfig
	AllowNondistributableArtifactsCIDRs, AllowNondistributableArtifactsHostnames []string
}

func infoBefore149(i oldInfo) olderInfo {
	i.FirewallBackend = nil
	return olderInfo{
		oldInfo: i, RegistryConfig: oldRegistries{ServiceConfig: i.RegistryConfig},
		ContainerdCommit: oldCommit{i.ContainerdCommit.ID, i.ContainerdCommit.ID}, RuncCommit: oldCommit{i.RuncCommit.ID, i.RuncCommit.ID},
		InitCommit: oldCommit{i.InitCommit.ID, i.InitCommit.ID},
	}
}

func (rt router) info(ctx context.Context, w http.ResponseWriter, _ *http.Request, _ httpapi.Vars) error {
	v := httpapi.Version(ctx)
	out := oldInfo{Info: rt.s.Info(ctx)}
	if httpapi.VersionLess(v, "1.50") {
		out.BridgeNfIptables, out.BridgeNfIP6tables = new(bool), new(bool)
	}
	if httpapi.VersionLess(v, "1.49") {
		return httpapi.WriteJSON(w, http.StatusOK, infoBefore149(out))
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

func (rt router) version(_ context.Context, w http.ResponseWriter, _ *http.Request, _ httpapi.Vars) error {
	return httpapi.WriteJSON(w, http.StatusOK, rt.s.Version())
}

// legacyUsage are the fields of /system/df up to API 1.52.
type legacyUsage struct {
	LayersSize *int64               `json:",omitempty"`
	Images     *[]legacyImage       `json:",omitempty"`
	Containers *[]container.Summary `json:",omitempty"`
	Volumes    *[]volume.Volume     `json:",omitempty"`
	BuildCache *[]build.CacheRecord `json:",omitempty"`
}

func (rt router) df(ctx context.Context, w http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	v := httpapi.Version(ctx)
	var kinds []string
	if !httpapi.VersionLess(v, "1.42") {
		_ = r.ParseForm()
		kinds = r.Form["type"]
	}
	u, err := rt.s.DiskUsage(ctx, kinds)
	if err != nil {
		return err
	}
	var out struct {
		legacyUsage
		system.DiskUsage
	}
	verbose := httpapi.Bool(r, "verbose")
	if httpapi.VersionLess(v, "1.52") || !verbose && v == "1.52" {
		out.legacyUsage = legacy(v, u)
	}
	if !httpapi.VersionLess(v, "1.52") {
		out.DiskUsage = u.DiskUsage
		if !verbose {
			strip(&out.DiskUsage)
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

// legacyImage has the size's second name, which went with 1.44.
type legacyImage struct {
	image.Summary
	VirtualSize *int64 `json:",omitempty"`
}

func legacy(v string, u service.Usage) legacyUsage {
	var l legacyUsage
	if u.ImageUsage != nil {
		l.LayersSize, l.Images = &u.LayersSize, &[]legacyImage{}
		for _, s := range u.ImageUsage.Items {
			i := legacyImage{Summary: s}
			if httpapi.VersionLess(v, "1.44") {
				i.VirtualSize = &i.Size
			}
			*l.Images = append(*l.Images, i)
		}
	}
	if u.ContainerUsage != nil {
		l.Containers = &u.ContainerUsage.Items
	}
	if u.VolumeUsage != nil {
		l.Volumes = &u.VolumeUsage.Items
	}
	if u.BuildCacheUsage != nil {
		l.BuildCache = &u.BuildCacheUsage.Items
	}
	return l
}

// strip leaves the sums and drops the lists, in copies.
func strip(u *system.DiskUsage) {
	if p := u.ImageUsage; p != nil {
		c := *p
		c.Items, u.ImageUsage = nil, &c
	}
	if p := u.ContainerUsage; p != nil {
		c := *p
		c.Items, u.ContainerUsage = nil, &c
	}
	if p := u.VolumeUsage; p != nil {
		c := *p
		c.Items, u.VolumeUsage = nil, &c
	}
	if p := u.BuildCacheUsage; p != nil {
		c := *p
		c.Items, u.BuildCacheUsage = nil, &c
	}
}
