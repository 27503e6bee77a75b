package redis

import (
	"context"
	"errors"
	"testing"

	"github.com/gomodule/redigo/redis"
)

// closing is a connection that answers once, and is closed then, as by a context that ends between two replies.
type closing struct {
	redis.Conn
	answered bool
	end      func()
}

func (c *closing) Send(string, ...any) error { return nil }
func (c *closing) Flush() error              { return nil }

func (c *closing) Receive() (any, error) {
	c.answered = true
	c.end()
	return "OK", nil
}

func (c *closing) Err() error {
	if c.answered {
		return errors.New("closed")
	}
	return nil
}

func (c *closing) Close() error { return nil }

// A promotion took the replies that had not come for nil ones, gave up the lead, and did not say that time was up.
func TestABatchThatIsCutBetweenTwoRepliesSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := &Control{conn: &closing{end: cancel}}
	if _, err := c.batch(ctx, []any{"PING"}, []any{"INFO"}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want that of the context", err)
	}
}
