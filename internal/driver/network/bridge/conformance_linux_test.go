package bridge

import (
	"testing"

	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/testkit/networkkind"
)

func TestConformance(t *testing.T) {
	networkkind.Suite{Column: "bridge", Kind: func() networks.Kind { return Kind{Engine: "judged", PoolSize: 4} }}.Run(t)
}
