package cli

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"

	"understudy/aws/jmespath"
	"understudy/aws/wire"
)

// printInput shows what --cli-input-json takes, with values that only show the types.
func (c *command) printInput(o *wire.Operation, kind string) error {
	v := any(jmespath.Object{})
	if shape := c.service.model.Shapes[o.Input]; shape != nil {
		v = skeleton(shape, "", false, nil)
	}
	if kind == "yaml-input" {
		text, err := yaml.MarshalWithOptions(yamlOf(v, false), yaml.UseSingleQuote(true))
		if err == nil {
			_, err = c.opts.Stdout.Write(text)
		}
		return err
	}
	_, err := fmt.Fprintln(c.opts.Stdout, jmespath.JSON(v, 4))
	return err
}

// sampleOutput is an answer of the operation's shape, each text being its member's name.
func sampleOutput(m *wire.Model, o *wire.Operation) any {
	if shape := m.Shapes[o.Output]; shape != nil {
		return skeleton(shape, "", true, nil)
	}
	return jmespath.Object{}
}

// skeleton is a value of the shape. above are the shapes that it stands in: those that hold themselves end.
func skeleton(s *wire.Shape, name string, named bool, above []*wire.Shape) any {
	above = append(above, s)
	switch s.Type {
	case "structure":
		o := jmespath.Object{}
		if count(above, s) > 1 {
			return o
		}
		for _, m := range s.Members {
			o = append(o, jmespath.Member{Name: m.Name, Value: skeleton(m.Shape, m.Name, named, above)})
		}
		return o
	case "list":
		return []any{skeleton(s.Member.Shape, s.Member.Of, named, above)}
	case "map":
		return jmespath.Object{{Name: "KeyName", Value: skeleton(s.Value.Shape, "", named, above)}}
	case "string":
		if named {
			return name
		}
		if len(s.Enum) > 0 {
			return s.Enum[0]
		}
		return ""
	case "integer", "long":
		return int64(0)
	case "double", "float":
		return 0.0
	case "boolean":
		return true
	case "timestamp":
		return "1970-01-01T00:00:00"
	}
	return nil
}

func count(all []*wire.Shape, one *wire.Shape) int {
	return len(slices.DeleteFunc(slices.Clone(all), func(s *wire.Shape) bool { return s != one }))
}
