package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

//go:generate go test . -run TestThePageIsWhatTheDoctorSays -update

// IDs are those of all findings, sorted.
func IDs() []string { return slices.Sorted(maps.Keys(pages)) }

// Explain is the section of docs/doctor.md about a finding; ok: there is such a finding.
func Explain(id string) (text string, ok bool) {
	p, ok := pages[id]
	if !ok {
		return "", false
	}
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n**%s** (%s). %s\n\n%s\n", id, p.Title, p.Severity, p.Why, p.Text)
	if p.Advice != "" {
		fmt.Fprintf(&b, "\nWhere there is no command: %s\n", p.Advice)
	}
	if lines := factsOf(trouble(id)); lines != "" {
		fmt.Fprintf(&b, "\n| library | versions | by default | set | source |\n|---|---|---|---|---|\n%s", lines)
	}
	for _, s := range p.Sources {
		fmt.Fprintf(&b, "\nSource: <%s>\n", s)
	}
	return b.String(), true
}

// factsOf are the rows of the table of libraries.
func factsOf(t trouble) string {
	var b strings.Builder
	for _, f := range facts {
		if f.trouble != t {
			continue
		}
		versions := "all"
		switch {
		case f.from != "":
			versions = "from " + f.from
		case f.below != "":
			versions = "below " + f.below
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | <%s> |\n", f.library, versions, f.says, f.set, f.source)
	}
	return b.String()
}

// Page is docs/doctor.md.
func Page() string {
	var b strings.Builder
	b.WriteString(preface)
	b.WriteString("\n| finding | severity | |\n|---|---|---|\n")
	for _, id := range IDs() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", id, id, pages[id].Severity, pages[id].Title)
	}
	for _, id := range IDs() {
		text, _ := Explain(id)
		b.WriteString("\n" + text)
	}
	return b.String()
}

const preface = `# The doctor

Written by ` + "`go generate ./doctor`" + ` from what the program says; changes here are lost.

` + "`understudy doctor`" + ` examines a group before a failover does: copies and zones, failover, alarms and who hears them,
backups, drills, clients, memory. It says what it found in one sentence with the figures, why that matters, and the
command that repairs it. ` + "`understudy doctor explain ID`" + ` prints a section of this page.

` + "```sh" + `
understudy doctor                                                  # the running instance
understudy doctor --target elasticache://my-group --region us-east-1
understudy doctor --fix                                            # shows what it would mend, and asks
understudy doctor --fix --yes
understudy doctor --json
` + "```" + `

Exit 0: nothing of warning or above. 1: findings. 2: usage. 3: not reachable.

**What is read.** Of a local instance: its status, its front (ElastiCache, CloudWatch, SNS), its backups, its proxy's
settings, the records of drills (--drills), and through the endpoints INFO, CLIENT LIST and a sample of keys. Of
ElastiCache the same through AWS's API and the group's endpoints. Nothing is written. What cannot be read is a finding
([source-not-read](#source-not-read)), and nothing is concluded from it. Rights on AWS:
[deploy/aws/iam-policy.json](../deploy/aws/iam-policy.json), statements LookAtGroups, ReadMetrics and DoctorLooksAtAlarms; for
--fix those that begin with Doctor, and the tag ` + "`understudy:doctor`" + ` = ` + "`allowed`" + ` on the group.

**What --fix does.** Only what interrupts nobody, deletes nothing and costs no further node: ModifyReplicationGroup
(automatic failover, Multi-AZ, retention), EnableAlarmActions, PutMetricAlarm (alarms called understudy-doctor-…), a
backup. Everything is shown with its call first; without --yes nothing is done unless a person on a terminal says y. Then
the group is examined again, and what is left is said.

**What cannot be seen.** Settings inside applications: of clients only what their libraries do by default is known, and
only of libraries that give their names. AWS's own alarms on other accounts. Real AWS was not available while this was
written: the API's answers were played by this program's own front.

## Findings
`
