package wire

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Services word a missing parameter in ways of their own; bounds are checked by the framework that they share.
const (
	serviceElastiCache = "elasticache"
	serviceCloudWatch  = "monitoring"
	serviceSNS         = "sns"
)

// mostViolations bounds a message: AWS names ten too.
const mostViolations = 10

// validate checks an input against the model: what is required is there, and values are within their bounds.
func (m *Model) validate(s *Shape, tree any) error {
	v := validator{model: m}
	v.check(s, tree, "")
	if v.missing != nil {
		return v.missing
	}
	if len(v.violations) == 0 {
		return nil
	}
	n, plural := len(v.violations), "s"
	if n == 1 {
		plural = ""
	}
	return Refuse("ValidationError", "%d validation error%s detected: %s", n, plural, strings.Join(v.violations[:min(n, mostViolations)], "; "))
}

type validator struct {
	model      *Model
	missing    *Error
	violations []string
}

func (v *validator) violate(value, path, constraint string, args ...any) {
	v.violations = append(v.violations, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: Member must %s", value, path, fmt.Sprintf(constraint, args...)))
}

func (v *validator) check(s *Shape, tree any, path string) {
	switch tree := tree.(type) {
	case map[string]any:
		if s.Type == "map" {
			v.length(s, len(tree), "", path)
			for k, value := range tree {
				v.check(s.Key.Shape, k, path+"."+k+".key")
				v.check(s.Value.Shape, value, path+"."+k+".member")
			}
		}
		if s.Type != "structure" {
			return
		}
		for _, name := range s.Required {
			if tree[name] == nil {
				v.lacks(join(path, lower(name)), name)
			}
			if tree[name] == "" && v.model.Signing == serviceElastiCache && v.missing == nil {
				v.missing = Refuse("InvalidParameterValue", "The parameter %s must be provided and must not be blank.", name)
				v.missing.Shape = "InvalidParameterValueException"
			}
		}
		for _, m := range s.Members {
			if value := tree[m.Name]; value != nil {
				v.check(m.Shape, value, join(path, lower(m.Name)))
			}
		}
	case []any:
		if s.Type != "list" {
			return
		}
		v.length(s, len(tree), "["+strings.TrimSuffix(strings.Repeat("…, ", len(tree)), ", ")+"]", path)
		for i, item := range tree {
			v.check(s.Member.Shape, item, fmt.Sprintf("%s.%d.member", path, i+1))
		}
	default:
		v.scalar(s, tree, path)
	}
}

// lacks notes a required member that is not there. Whoever looks for the code finds AWS's.
func (v *validator) lacks(path, name string) {
	switch v.model.Signing {
	case serviceElastiCache:
		if v.missing == nil {
			v.missing = Refuse("InvalidParameterValue", "The parameter %s must be provided and must not be null.", name)
			v.missing.Shape = "InvalidParameterValueException"
		}
	case serviceCloudWatch:
		if v.missing == nil {
			v.missing = Refuse("MissingParameter", "The parameter %s is required.", name)
			v.missing.Shape = "MissingRequiredParameterException"
		}
	default:
		v.violate("null", path, "not be null")
	}
}

func (v *validator) length(s *Shape, n int, shown, path string) {
	if s.Max != nil && n > int(*s.Max) {
		v.violate("'"+shown+"'", path, "have length less than or equal to %d", int(*s.Max))
	}
	if s.Min != nil && n < int(*s.Min) {
		v.violate("'"+shown+"'", path, "have length greater than or equal to %d", int(*s.Min))
	}
}

func (v *validator) scalar(s *Shape, tree any, path string) {
	switch s.Type {
	case "string":
		text, ok := tree.(string)
		if !ok {
			return // bind says so
		}
		v.length(s, utf8.RuneCountInString(text), text, path)
		if s.Pattern != "" && !matches(s.Pattern, text) {
			v.violate("'"+text+"'", path, "satisfy regular expression pattern: %s", s.Pattern)
		}
		v.enum(s, text, path)
	case "integer", "long", "double", "float":
		value, ok := scalar(s.Type, tree)
		if !ok {
			return
		}
		number, _ := float(value)
		shown := "'" + numberText(tree) + "'"
		if s.Max != nil && number.(float64) > *s.Max {
			v.violate(shown, path, "have value less than or equal to %s", floatShort(*s.Max))
		}
		if s.Min != nil && number.(float64) < *s.Min {
			v.violate(shown, path, "have value greater than or equal to %s", floatShort(*s.Min))
		}
	}
}

func (v *validator) enum(s *Shape, text, path string) {
	if len(s.Enum) == 0 {
		return
	}
	for _, e := range s.Enum {
		if e == text {
			return
		}
	}
	values := s.Enum
	if known, ok := enumOrder[s.Name]; ok {
		values = known
	}
	v.violate("'"+text+"'", path, "satisfy enum value set: [%s]", strings.Join(values, ", "))
}

// enumOrder is how AWS lists an enum's values where that is known to differ from its model: it hashes them.
var enumOrder = map[string][]string{"StateValue": {"INSUFFICIENT_DATA", "ALARM", "OK"}}

var patterns sync.Map // string -> *regexp.Regexp

// matches is for patterns of the models; TestPatternsCompile looks at each that an input can meet.
func matches(pattern, text string) bool {
	re, ok := patterns.Load(pattern)
	if !ok {
		re, _ = patterns.LoadOrStore(pattern, regexp.MustCompile(`\A(?:`+pattern+`)\z`))
	}
	return re.(*regexp.Regexp).MatchString(text)
}

func lower(name string) string { return strings.ToLower(name[:1]) + name[1:] }

func numberText(tree any) string {
	switch tree := tree.(type) {
	case string:
		return tree
	case json.Number:
		return tree.String()
	case float64:
		return floatShort(tree)
	}
	return fmt.Sprint(tree)
}

func floatShort(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
