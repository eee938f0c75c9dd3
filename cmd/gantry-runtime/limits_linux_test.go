package main

import (
	"reflect"
	"testing"

	"github.com/gantry-engine/gantry/runtime"
)

func TestShownCgroups(t *testing.T) {
	const top = "/sys/fs/cgroup/"
	for _, c := range []struct {
		path string
		dirs map[string]string
		want []runtime.CgroupDir
	}{
		{"/a/b", map[string]string{"": top + "a/b"}, []runtime.CgroupDir{{Dir: top + "a/b"}}},
		{"a/b", map[string]string{"cpuacct": top + "cpu,cpuacct/a/b", "cpu": top + "cpu,cpuacct/a/b", "name=systemd": top + "systemd/a/b"},
			[]runtime.CgroupDir{{Name: "cpu,cpuacct", Dir: top + "cpu,cpuacct/a/b", Link: []string{"cpu", "cpuacct"}}, {Name: "systemd", Dir: top + "systemd/a/b"}}},
	} {
		if got := shownCgroups(c.dirs, c.path); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", c.path, got)
		}
	}
}
