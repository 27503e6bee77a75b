package cli

import (
	"encoding/json"
	"slices"
	"strings"
)

// promoted are options of put-metric-data for one metric, in place of --metric-data.
var promoted = []string{"metric-name", "timestamp", "unit", "value", "dimensions", "statistic-values", "storage-resolution"}

// promote makes MetricData of them.
func promote(in *input) error {
	one := map[string]any{}
	members := map[string]string{"metric-name": "MetricName", "timestamp": "Timestamp", "unit": "Unit", "value": "Value",
		"storage-resolution": "StorageResolution"}
	for _, name := range promoted {
		text, given := in.own[name]
		if !given {
			continue
		}
		switch name {
		case "dimensions":
			var list []any
			if err := csv(name, text, func(key, value string) { list = append(list, map[string]any{"Name": key, "Value": value}) }); err != nil {
				return err
			}
			one["Dimensions"] = list
		case "statistic-values":
			values := map[string]any{}
			if err := csv(name, text, func(key, value string) { values[key] = json.Number(value) }); err != nil {
				return err
			}
			one["StatisticValues"] = values
		case "value", "storage-resolution":
			one[members[name]] = json.Number(text)
		default:
			one[members[name]] = text
		}
	}
	if len(one) == 0 {
		return nil
	}
	if in.tree["MetricData"] != nil {
		var used []string
		for name := range in.own {
			if slices.Contains(promoted, name) {
				used = append(used, "--"+name)
			}
		}
		slices.Sort(used)
		return usage("The following arguments cannot be specified together with --metric-data: %s", strings.Join(used, ", "))
	}
	in.tree["MetricData"] = []any{one}
	return nil
}

// csv reads key=value,key=value.
func csv(option, text string, each func(key, value string)) error {
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return usage("Error parsing parameter '--%s': %q is not KEY=VALUE", option, pair)
		}
		each(key, value)
	}
	return nil
}
