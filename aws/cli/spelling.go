package cli

import (
	"context"
	"fmt"

	"understudy/aws/jmespath"
)

// failoverPrimary is an operation that AWS does not have. A widely read guide prints it; here it does what that
// guide says it does.
const failoverPrimary = "failover-primary-instance"

// failoverPrimary forces a failover of a group's primary by TestFailover, unless the primary is in another zone
// than the one named. The zone is looked at just before: a primary that moves in between is not noticed.
func (c *command) failoverPrimary(ctx context.Context, words []string) error {
	test := c.service.model.Operations["TestFailover"]
	if len(words) > 0 && words[0] == "help" {
		helpFailoverPrimary(c.opts.Stdout)
		return nil
	}
	names := []option{{name: "replication-group-id", required: true}, {name: "primary-availability-zone"}}
	got, unknown, err := split(names, words)
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		return unknownOptions(unknown, names)
	}
	said := map[string]string{}
	for _, g := range got {
		said[g.name] = g.words[0]
	}
	group, zone := said["replication-group-id"], said["primary-availability-zone"]
	if group == "" {
		return badUsage("the following arguments are required: --replication-group-id")
	}
	query, err := c.globals.compile()
	if err != nil {
		return err
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	nodeGroup, at, node, err := c.primary(ctx, group)
	if err != nil {
		return err
	}
	c.note("AWS has no %s; its own CLI would take: elasticache test-failover --replication-group-id %s --node-group-id %s", failoverPrimary, group, nodeGroup)
	if zone != "" && zone != at {
		return failure{exitRefused, fmt.Sprintf("An error occurred (InvalidParameterValue) when calling the FailoverPrimaryInstance operation: The primary of %s, %s, is in %s and not in %s. Nothing was done.", group, node, at, zone)}
	}
	out, err := c.client.send(ctx, test, map[string]any{"ReplicationGroupId": group, "NodeGroupId": nodeGroup})
	if err != nil {
		return err
	}
	return c.print("FailoverPrimaryInstance", out, query)
}

// primary is where a group's primary is.
func (c *command) primary(ctx context.Context, group string) (nodeGroup, zone, node string, err error) {
	out, err := c.client.send(ctx, c.service.model.Operations["DescribeReplicationGroups"], map[string]any{"ReplicationGroupId": group})
	if err != nil {
		return "", "", "", err
	}
	groups, _ := search(out, "ReplicationGroups[].NodeGroups[]").([]any)
	if len(groups) != 1 {
		return "", "", "", failure{exitRefused, fmt.Sprintf("An error occurred (InvalidParameterCombination) when calling the FailoverPrimaryInstance operation: %s has %d node groups; name one with test-failover --node-group-id.", group, len(groups))}
	}
	g, _ := groups[0].(jmespath.Object)
	nodeGroup, _ = g.Get("NodeGroupId").(string)
	found, _ := search(g, "NodeGroupMembers[?CurrentRole=='primary'] | [0]").(jmespath.Object)
	if found == nil {
		return "", "", "", failure{exitRefused, fmt.Sprintf("An error occurred (InvalidReplicationGroupState) when calling the FailoverPrimaryInstance operation: %s has no primary.", group)}
	}
	zone, _ = found.Get("PreferredAvailabilityZone").(string)
	node, _ = found.Get("CacheClusterId").(string)
	return nodeGroup, zone, node, nil
}
