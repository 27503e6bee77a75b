package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"understudy/aws"
	"understudy/aws/elasticache"
)

// awsConfig says what AWS's clients find at the HTTP address.
type awsConfig struct {
	Region        string `yaml:"aws-region"`
	Account       string `yaml:"aws-account"`
	KeysFile      string `yaml:"aws-keys-file"`
	TestFailovers int    `yaml:"aws-test-failovers"`
	NodeMemory    int    `yaml:"aws-node-memory"`
}

func defaultAWS() awsConfig {
	return awsConfig{Region: aws.DefaultRegion, Account: aws.DefaultAccount}
}

// flags binds every setting to a flag.
func (c *awsConfig) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Region, "aws-region", c.Region, "region that AWS's clients find here")
	fs.StringVar(&c.Account, "aws-account", c.Account, "account that they find here, twelve digits")
	fs.StringVar(&c.KeysFile, "aws-keys-file", c.KeysFile, "file with access keys of AWS's clients, a line each: ID SECRET, or ID SECRET USER; empty: this machine's programs need none, others are refused")
	fs.IntVar(&c.TestFailovers, "aws-test-failovers", c.TestFailovers, "calls of TestFailover within 24 hours; 0: any number; AWS allows 15")
	fs.IntVar(&c.NodeMemory, "aws-node-memory", c.NodeMemory, "most bytes of data of one node, whatever its type has; 0: what its type has")
}

func (c *awsConfig) validate() error {
	switch {
	case c.TestFailovers < 0:
		return fmt.Errorf("--aws-test-failovers %d: is below zero", c.TestFailovers)
	case c.NodeMemory < 0 || c.NodeMemory > 0 && c.NodeMemory < elasticache.LeastNodeMemory:
		return fmt.Errorf("--aws-node-memory %d: at least %d bytes, or 0", c.NodeMemory, elasticache.LeastNodeMemory)
	}
	if err := (aws.Options{Region: c.Region, Account: c.Account}).Validate(); err != nil {
		return fmt.Errorf("--aws-%w", err)
	}
	return nil
}

// keys reads the file with access keys. Errors do not repeat secrets.
func (c *awsConfig) keys() (all []aws.Key, err error) {
	if c.KeysFile == "" {
		return nil, nil
	}
	lines, err := readSecrets("aws keys", c.KeysFile)
	if err != nil {
		return nil, err
	}
	for i, line := range lines {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) < 2 || len(words) > 3 {
			return nil, fmt.Errorf("aws keys file %s: entry %d has %d words: ID SECRET, or ID SECRET USER", c.KeysFile, i+1, len(words))
		}
		k := aws.Key{ID: words[0], Secret: words[1]}
		if len(words) == 3 {
			k.User = words[2]
		}
		all = append(all, k)
	}
	if len(all) == 0 {
		return nil, errors.New("aws keys file " + c.KeysFile + ": there is no key in it")
	}
	return all, (aws.Options{Keys: all}).Validate()
}
