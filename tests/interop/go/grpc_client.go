package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"sync"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func init() {
	commands["grpc-client"] = command{"call interop.Echo on grpc-go and print what came of it as JSON", grpcClient}
}

// scenario is one thing a client does; it returns what a test looks at.
type scenario func(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error)

type clientOptions struct {
	size, count, concurrency int
	duration, timeout        time.Duration
}

// outcome is a status as JSON.
type outcome struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Details []string `json:"details,omitempty"`
}

func outcomeOf(err error) outcome {
	s := status.Convert(err)
	result := outcome{Code: s.Code().String(), Message: s.Message()}
	for _, detail := range s.Proto().GetDetails() {
		result.Details = append(result.Details, detail.GetTypeUrl())
	}
	return result
}

var scenarios = map[string]scenario{
	"unary":         clientUnary,
	"collect":       clientCollect,
	"collect-first": clientCollectFirst,
	"repeat":        clientRepeat,
	"chat":          clientChat,
	"chat-once":     clientChatOnce,
	"fail":          clientFail,
	"chat-fail":     clientChatFail,
	"call":          clientCall,
	"deadline":      clientDeadline,
	"cancel":        clientCancel,
	"endless":       clientEndless,
	"metadata":      clientMetadata,
	"gzip":          clientGzip,
	"health":        clientHealth,
	"load":          clientLoad,
	"many-streams":  clientManyStreams,
}

func grpcClient(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("grpc-client", flag.ContinueOnError)
	target := flags.String("target", "", "where to call, as grpc-go writes it")
	name := flags.String("scenario", "unary", "what to do")
	var o clientOptions
	flags.IntVar(&o.size, "size", 1, "bytes a message")
	flags.IntVar(&o.count, "count", 1, "how many")
	flags.IntVar(&o.concurrency, "concurrency", 1, "how many at once")
	flags.DurationVar(&o.duration, "duration", time.Second, "how long")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Second, "deadline of a call")
	flags.StringVar(&callMethod, "method", "/"+echoName+"/Unary", "method of scenario call")
	files := addTLSFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	run := scenarios[*name]
	if run == nil {
		return fmt.Errorf("no scenario %q", *name)
	}
	creds, err := files.client()
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(*target, grpc.WithTransportCredentials(creds), grpc.WithDisableRetry())
	if err != nil {
		return err
	}
	defer conn.Close()
	result, err := run(ctx, conn, o)
	if err != nil {
		result = map[string]any{"error": outcomeOf(err)}
	}
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	return nil
}

var callMethod string

func method(name string) string { return "/" + echoName + "/" + name }

func payload(size int) *wrapperspb.BytesValue {
	return wrapperspb.Bytes(bytes.Repeat([]byte{0x5a}, size))
}

func echoOnce(ctx context.Context, conn *grpc.ClientConn, o clientOptions) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	answer := new(wrapperspb.BytesValue)
	request := payload(o.size)
	if err := conn.Invoke(ctx, method("Unary"), request, answer); err != nil {
		return err
	}
	if !proto.Equal(request, answer) {
		return errors.New("the echo differs")
	}
	return nil
}

func clientUnary(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	return outcomeOf(echoOnce(ctx, conn, o)), nil
}

func clientCall(ctx context.Context, conn *grpc.ClientConn, _ clientOptions) (any, error) {
	return outcomeOf(conn.Invoke(ctx, callMethod, &emptypb.Empty{}, &emptypb.Empty{})), nil
}

func open(ctx context.Context, conn *grpc.ClientConn, name string) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	return conn.NewStream(ctx, desc, method(name))
}

func clientCollect(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	stream, err := open(ctx, conn, "Collect")
	if err != nil {
		return nil, err
	}
	for range o.count {
		if err := stream.SendMsg(payload(o.size)); err != nil {
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	total := new(wrapperspb.Int64Value)
	if err := stream.RecvMsg(total); err != nil {
		return nil, err
	}
	return map[string]any{"total": total.Value}, expectEnd(stream)
}

func expectEnd(stream grpc.ClientStream) error {
	err := stream.RecvMsg(new(emptypb.Empty))
	if err == io.EOF {
		return nil
	}
	if err == nil {
		return errors.New("a message too many")
	}
	return err
}

// clientCollectFirst goes on sending until it is told that nobody listens.
func clientCollectFirst(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	stream, err := open(ctx, conn, "CollectFirst")
	if err != nil {
		return nil, err
	}
	sent := 0
	for ; sent < o.count; sent++ {
		if err := stream.SendMsg(payload(o.size)); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
	}
	first := new(wrapperspb.Int64Value)
	if err := stream.RecvMsg(first); err != nil {
		return nil, err
	}
	return map[string]any{"first": first.Value, "told": sent < o.count}, expectEnd(stream)
}

func clientRepeat(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	stream, err := open(ctx, conn, "Repeat")
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(wrapperspb.Int64(int64(o.count))); err != nil {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	got := 0
	for {
		err := stream.RecvMsg(new(wrapperspb.Int64Value))
		if err == io.EOF {
			return map[string]any{"messages": got}, nil
		}
		if err != nil {
			return nil, err
		}
		got++
	}
}

func clientChat(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	stream, err := open(ctx, conn, "Chat")
	if err != nil {
		return nil, err
	}
	for i := range o.count {
		if err := stream.SendMsg(payload(o.size)); err != nil {
			return nil, err
		}
		answer := new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(answer); err != nil {
			return nil, err
		}
		if len(answer.Value) != o.size {
			return nil, fmt.Errorf("answer %d has %d bytes", i, len(answer.Value))
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return map[string]any{"messages": o.count}, expectEnd(stream)
}

func clientChatOnce(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	stream, err := open(ctx, conn, "ChatOnce")
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(payload(o.size)); err != nil {
		return nil, err
	}
	answer := new(wrapperspb.BytesValue)
	if err := stream.RecvMsg(answer); err != nil {
		return nil, err
	}
	return map[string]any{"size": len(answer.Value)}, expectEnd(stream)
}

func wantedStatus() (*spb.Status, error) {
	detail, err := anypb.New(wrapperspb.String("why"))
	if err != nil {
		return nil, err
	}
	message := "nicht erlaubt: 100 % sicher\nno"
	return &spb.Status{Code: int32(codes.PermissionDenied), Message: message, Details: []*anypb.Any{detail}}, nil
}

func clientFail(ctx context.Context, conn *grpc.ClientConn, _ clientOptions) (any, error) {
	wanted, err := wantedStatus()
	if err != nil {
		return nil, err
	}
	return outcomeOf(conn.Invoke(ctx, method("Fail"), wanted, &emptypb.Empty{})), nil
}

func clientChatFail(ctx context.Context, conn *grpc.ClientConn, _ clientOptions) (any, error) {
	wanted, err := wantedStatus()
	if err != nil {
		return nil, err
	}
	stream, err := open(ctx, conn, "ChatFail")
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(wanted); err != nil {
		return nil, err
	}
	return outcomeOf(stream.RecvMsg(&emptypb.Empty{})), nil
}

func clientDeadline(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	return outcomeOf(conn.Invoke(ctx, method("Sleep"), wrapperspb.Int64(600_000), &wrapperspb.Int64Value{})), nil
}

func clientCancel(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	inner, cancel := context.WithCancel(ctx)
	time.AfterFunc(o.timeout, cancel)
	return outcomeOf(conn.Invoke(inner, method("Sleep"), wrapperspb.Int64(600_000), &wrapperspb.Int64Value{})),
		waitCancelled(ctx, conn)
}

func waitCancelled(ctx context.Context, conn *grpc.ClientConn) error {
	counts := struct{ Cancelled int }{}
	for counts.Cancelled == 0 {
		answer := new(wrapperspb.StringValue)
		if err := conn.Invoke(ctx, method("Counts"), &emptypb.Empty{}, answer); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(answer.Value), &counts); err != nil {
			return err
		}
	}
	return nil
}

// clientEndless holds a stream to its end and tells what the end was.
func clientEndless(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	stream, err := open(ctx, conn, "Endless")
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(payload(o.size)); err != nil {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	for {
		if err := stream.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
			return outcomeOf(err), nil
		}
		fmt.Println(`"message"`)
	}
}

func clientMetadata(ctx context.Context, conn *grpc.ClientConn, _ clientOptions) (any, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, "plain", "one", "plain", "two", "some-bin", "\x00\xff\x10")
	var header, trailer metadata.MD
	answer := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, method("Metadata"), &emptypb.Empty{}, answer, grpc.Header(&header), grpc.Trailer(&trailer))
	return map[string]string{
		"seen": answer.Value, "header": metadataJSON(header), "trailer": metadataJSON(trailer),
	}, err
}

func clientGzip(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	answer := new(wrapperspb.BytesValue)
	return outcomeOf(conn.Invoke(ctx, method("Unary"), payload(o.size), answer, grpc.UseCompressor(gzip.Name))), nil
}

func clientHealth(ctx context.Context, conn *grpc.ClientConn, _ clientOptions) (any, error) {
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return map[string]any{"status": answer.GetStatus().String()}, err
}

// clientLoad calls without a pause for a while, some calls at once, and counts by outcome.
func clientLoad(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	var mutex sync.Mutex
	outcomes := map[string]int{}
	var group sync.WaitGroup
	end := time.Now().Add(o.duration)
	for range o.concurrency {
		group.Add(1)
		go func() {
			defer group.Done()
			for time.Now().Before(end) {
				result := outcomeOf(echoOnce(ctx, conn, o))
				mutex.Lock()
				outcomes[result.Code+result.Message]++
				mutex.Unlock()
			}
		}()
	}
	group.Wait()
	return outcomes, nil
}

// clientManyStreams holds more calls at once than the server takes on one connection.
func clientManyStreams(ctx context.Context, conn *grpc.ClientConn, o clientOptions) (any, error) {
	var mutex sync.Mutex
	outcomes := map[string]int{}
	var group sync.WaitGroup
	for range o.count {
		group.Add(1)
		go func() {
			defer group.Done()
			ctx, cancel := context.WithTimeout(ctx, o.timeout)
			defer cancel()
			milliseconds := wrapperspb.Int64(o.duration.Milliseconds())
			err := conn.Invoke(ctx, method("Sleep"), milliseconds, &wrapperspb.Int64Value{})
			mutex.Lock()
			outcomes[outcomeOf(err).Code]++
			mutex.Unlock()
		}()
	}
	group.Wait()
	return outcomes, nil
}
