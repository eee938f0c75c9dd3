package app

// Help of the --format flags.
const (
	InspectFormatHelp = "How to print the result:\n'json':             as JSON\n'TEMPLATE':         by a Go template"
	FormatHelp        = "How to print the list:\n'table':            a table with column headers (default)\n'table TEMPLATE':   a table of the columns of a Go template\n'json':             one JSON object a line\n'TEMPLATE':         a line each by a Go template"
)
