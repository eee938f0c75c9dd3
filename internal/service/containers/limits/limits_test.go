package limits

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
)

func TestCheck(t *testing.T) {
	able := facts.Host{CPUs: 4, MemoryLimit: true, SwapLimit: true, CPUShares: true, CPUCfs: true, Cpuset: true, PidsLimit: true}
	for _, c := range []struct {
		name     string
		host     facts.Host
		asked    container.Resources
		warnings int
		bad      bool
	}{
		{"nothing", able, container.Resources{}, 0, false},
		{"memory", able, container.Resources{Memory: 6 << 20}, 0, false},
		{"too little memory", able, container.Resources{Memory: 6<<20 - 1}, 0, true},
		{"swap below memory", able, container.Resources{Memory: 64 << 20, MemorySwap: 32 << 20}, 0, true},
		{"no limits on this host", facts.Host{}, container.Resources{Memory: 64 << 20, CPUShares: 2}, 2, false},
		{"processors", able, container.Resources{CpusetCpus: "0-2,3"}, 0, false},
		{"a processor that is not there", able, container.Resources{CpusetCpus: "0,4"}, 0, true},
		{"processors backwards", able, container.Resources{CpusetCpus: "2-1"}, 0, true},
		{"more processors than there are", able, container.Resources{NanoCPUs: 5e9}, 0, true},
		{"weight of no device", able, container.Resources{BlkioWeight: 9}, 1, false},
	} {
		warnings, err := Check(&c.asked, &c.host)
		if len(warnings) != c.warnings || errdefs.IsInvalidArgument(err) != c.bad || (err != nil) != c.bad {
			t.Errorf("%s: %q, %v", c.name, warnings, err)
		}
	}
}

func TestWhatTheHostCannotLimitIsTakenOut(t *testing.T) {
	r := container.Resources{Memory: 64 << 20, CPUShares: 2, CpusetCpus: "0"}
	if _, err := Check(&r, &facts.Host{CPUs: 1}); err != nil || r.Memory != 0 || r.MemorySwap != -1 || r.CPUShares != 0 || r.CpusetCpus != "" {
		t.Errorf("%+v, %v", r, err)
	}
}
