package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeysOfAWSClientsAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]string{
		"# ours\nAKIA1 first\nAKIA2 second ops\n": "[{AKIA1 first } {AKIA2 second ops}]",
		"AKIA1":                 "entry 1 has 1 words",
		"AKIA1 hidden a b":      "entry 1 has 4 words",
		"AKIA1 hidden\nAKIA1 x": `"AKIA1" is there twice`,
		"# none":                "there is no key in it",
	} {
		file := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := (&awsConfig{KeysFile: file}).keys()
		if fmt.Sprint(all) != want && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden")) {
			t.Errorf("%q: %v, %v", text, all, err)
		}
	}
}

func TestSettingsOfTheAWSFrontThatMakeNoSenseAreRefused(t *testing.T) {
	for want, c := range map[string]awsConfig{
		"--aws-test-failovers -1": {TestFailovers: -1}, "--aws-node-memory 100": {NodeMemory: 100}, "--aws-region: ": {Region: "Frankfurt"}, "--aws-account: ": {Account: "1"},
	} {
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}
