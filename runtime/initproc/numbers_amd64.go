package initproc

const (
	newfstatatNumber   = 262
	seccompNumber      = 317
	schedSetattrNumber = 314
	keyctlNumber       = 250
	memfdNumber        = 319
	execveatNumber     = 322
)
