package images

import (
	"context"
	"time"
)

// SetBudgetForTest sets the limit without work in the background.
func (s *Service) SetBudgetForTest(limit int64) { s.budget.limit.Store(limit) }

// EnforceForTest keeps the budget once, at a time.
func (s *Service) EnforceForTest(ctx context.Context, now time.Time) error {
	return s.budget.enforce(ctx, now)
}
