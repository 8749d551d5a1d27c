package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// echoName is the service both sides of the tests serve and call; its messages are protobuf's well-known types.
const echoName = "interop.Echo"

// echo is our implementation of it on grpc-go.
type echo struct {
	started, cancelled, finished atomic.Int64
}

func receive[M any, P interface {
	*M
	proto.Message
}](stream grpc.ServerStream) (P, error) {
	message := P(new(M))
	return message, stream.RecvMsg(message)
}

func unary[Req any, PReq interface {
	*Req
	proto.Message
}](name string, call func(*echo, context.Context, PReq) (proto.Message, error)) grpc.MethodDesc {
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			request := PReq(new(Req))
			if err := decode(request); err != nil {
				return nil, err
			}
			return call(srv.(*echo), ctx, request)
		},
	}
}

var echoService = grpc.ServiceDesc{
	ServiceName: echoName,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		unary("Unary", func(_ *echo, _ context.Context, request *wrapperspb.BytesValue) (proto.Message, error) {
			return request, nil
		}),
		// Fail ends with the status that it is sent.
		unary("Fail", func(_ *echo, _ context.Context, request *spb.Status) (proto.Message, error) {
			return nil, status.ErrorProto(request)
		}),
		// Sleep answers after so many milliseconds, unless the caller leaves.
		unary("Sleep", func(e *echo, ctx context.Context, request *wrapperspb.Int64Value) (proto.Message, error) {
			e.started.Add(1)
			select {
			case <-ctx.Done():
				e.cancelled.Add(1)
				return nil, status.FromContextError(ctx.Err()).Err()
			case <-time.After(time.Duration(request.Value) * time.Millisecond):
				e.finished.Add(1)
				return request, nil
			}
		}),
		// Counts tells how Sleep and Endless calls ended.
		unary("Counts", func(e *echo, _ context.Context, _ *emptypb.Empty) (proto.Message, error) {
			text := fmt.Sprintf(`{"started": %d, "cancelled": %d, "finished": %d}`,
				e.started.Load(), e.cancelled.Load(), e.finished.Load())
			return wrapperspb.String(text), nil
		}),
		// Metadata answers with the metadata it got, and sends some of its own before and after.
		unary("Metadata", func(_ *echo, ctx context.Context, _ *emptypb.Empty) (proto.Message, error) {
			if err := grpc.SetHeader(ctx, metadata.Pairs("early", "header", "early-bin", "\x00\xff")); err != nil {
				return nil, err
			}
			if err := grpc.SetTrailer(ctx, metadata.Pairs("late", "trailer", "late-bin", "\xfe\x01\x02")); err != nil {
				return nil, err
			}
			incoming, _ := metadata.FromIncomingContext(ctx)
			return wrapperspb.String(metadataJSON(incoming)), nil
		}),
	},
	Streams: []grpc.StreamDesc{
		// Collect answers with the number of bytes it was sent.
		{StreamName: "Collect", ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			total := 0
			for {
				message, err := receive[wrapperspb.BytesValue](stream)
				if err == io.EOF {
					return stream.SendMsg(wrapperspb.Int64(int64(total)))
				}
				if err != nil {
					return err
				}
				total += len(message.Value)
			}
		}},
		// CollectFirst answers after the first message, whatever follows it.
		{StreamName: "CollectFirst", ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			message, err := receive[wrapperspb.BytesValue](stream)
			if err != nil {
				return err
			}
			return stream.SendMsg(wrapperspb.Int64(int64(len(message.Value))))
		}},
		// Repeat answers so many messages.
		{StreamName: "Repeat", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			count, err := receive[wrapperspb.Int64Value](stream)
			if err != nil {
				return err
			}
			for i := int64(0); i < count.Value; i++ {
				if err := stream.SendMsg(wrapperspb.Int64(i)); err != nil {
					return err
				}
			}
			return nil
		}},
		// Endless answers once and then holds the stream until the caller leaves.
		{StreamName: "Endless", ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
			e := srv.(*echo)
			message, err := receive[wrapperspb.BytesValue](stream)
			if err != nil {
				return err
			}
			e.started.Add(1)
			if err := stream.SendMsg(message); err != nil {
				return err
			}
			<-stream.Context().Done()
			e.cancelled.Add(1)
			return stream.Context().Err()
		}},
		// Chat answers every message with itself.
		{StreamName: "Chat", ClientStreams: true, ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				message, err := receive[wrapperspb.BytesValue](stream)
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				if err := stream.SendMsg(message); err != nil {
					return err
				}
			}
		}},
		// ChatOnce answers the first message and ends the call, whether or not the client has ended its side.
		{StreamName: "ChatOnce", ClientStreams: true, ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			message, err := receive[wrapperspb.BytesValue](stream)
			if err != nil {
				return err
			}
			return stream.SendMsg(message)
		}},
		// ChatFail ends the call with the status it is sent, whether or not the client has ended its side.
		{StreamName: "ChatFail", ClientStreams: true, ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			message, err := receive[spb.Status](stream)
			if err != nil {
				return err
			}
			return status.ErrorProto(message)
		}},
	},
}

// metadataJSON shows metadata as JSON; values of binary keys as hex.
func metadataJSON(md metadata.MD) string {
	shown := map[string][]string{}
	for key, values := range md {
		for _, value := range values {
			if strings.HasSuffix(key, "-bin") {
				value = hex.EncodeToString([]byte(value))
			}
			shown[key] = append(shown[key], value)
		}
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
