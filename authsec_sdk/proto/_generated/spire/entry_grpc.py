# Written by authsec_sdk.proto.generate from authsec_sdk/proto/spire/entry.proto. Do not edit.
"""Services of authsec_sdk/proto/spire/entry.proto: handlers and stubs."""

import grpclib.client
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from authsec_sdk.proto._generated.spire import entry_pb2
from authsec_sdk.proto._generated.spire import types_pb2


class EntryBase:
    """Handlers of /spire.api.server.entry.v1.Entry/: override what is served."""

    async def CountEntries(
        self, stream: "grpclib.server.Stream[entry_pb2.CountEntriesRequest, entry_pb2.CountEntriesResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method CountEntries not implemented")

    async def ListEntries(
        self, stream: "grpclib.server.Stream[entry_pb2.ListEntriesRequest, entry_pb2.ListEntriesResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method ListEntries not implemented")

    async def GetEntry(
        self, stream: "grpclib.server.Stream[entry_pb2.GetEntryRequest, types_pb2.Entry]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetEntry not implemented")

    async def BatchCreateEntry(
        self, stream: "grpclib.server.Stream[entry_pb2.BatchCreateEntryRequest, entry_pb2.BatchCreateEntryResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchCreateEntry not implemented")

    async def BatchUpdateEntry(
        self, stream: "grpclib.server.Stream[entry_pb2.BatchUpdateEntryRequest, entry_pb2.BatchUpdateEntryResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchUpdateEntry not implemented")

    async def BatchDeleteEntry(
        self, stream: "grpclib.server.Stream[entry_pb2.BatchDeleteEntryRequest, entry_pb2.BatchDeleteEntryResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method BatchDeleteEntry not implemented")

    async def GetAuthorizedEntries(
        self, stream: "grpclib.server.Stream[entry_pb2.GetAuthorizedEntriesRequest, entry_pb2.GetAuthorizedEntriesResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method GetAuthorizedEntries not implemented")

    async def SyncAuthorizedEntries(
        self, stream: "grpclib.server.Stream[entry_pb2.SyncAuthorizedEntriesRequest, entry_pb2.SyncAuthorizedEntriesResponse]"
    ) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, "method SyncAuthorizedEntries not implemented")

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.entry.v1.Entry/CountEntries": Handler(
                self.CountEntries, Cardinality.UNARY_UNARY, entry_pb2.CountEntriesRequest, entry_pb2.CountEntriesResponse
            ),
            "/spire.api.server.entry.v1.Entry/ListEntries": Handler(
                self.ListEntries, Cardinality.UNARY_UNARY, entry_pb2.ListEntriesRequest, entry_pb2.ListEntriesResponse
            ),
            "/spire.api.server.entry.v1.Entry/GetEntry": Handler(
                self.GetEntry, Cardinality.UNARY_UNARY, entry_pb2.GetEntryRequest, types_pb2.Entry
            ),
            "/spire.api.server.entry.v1.Entry/BatchCreateEntry": Handler(
                self.BatchCreateEntry, Cardinality.UNARY_UNARY, entry_pb2.BatchCreateEntryRequest, entry_pb2.BatchCreateEntryResponse
            ),
            "/spire.api.server.entry.v1.Entry/BatchUpdateEntry": Handler(
                self.BatchUpdateEntry, Cardinality.UNARY_UNARY, entry_pb2.BatchUpdateEntryRequest, entry_pb2.BatchUpdateEntryResponse
            ),
            "/spire.api.server.entry.v1.Entry/BatchDeleteEntry": Handler(
                self.BatchDeleteEntry, Cardinality.UNARY_UNARY, entry_pb2.BatchDeleteEntryRequest, entry_pb2.BatchDeleteEntryResponse
            ),
            "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries": Handler(
                self.GetAuthorizedEntries, Cardinality.UNARY_UNARY, entry_pb2.GetAuthorizedEntriesRequest, entry_pb2.GetAuthorizedEntriesResponse
            ),
            "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries": Handler(
                self.SyncAuthorizedEntries, Cardinality.STREAM_STREAM, entry_pb2.SyncAuthorizedEntriesRequest, entry_pb2.SyncAuthorizedEntriesResponse
            ),
        }


class EntryStub:
    """Calls of /spire.api.server.entry.v1.Entry/."""

    def __init__(self, channel: grpclib.client.Channel) -> None:
        self.CountEntries = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.entry.v1.Entry/CountEntries", entry_pb2.CountEntriesRequest, entry_pb2.CountEntriesResponse
        )
        self.ListEntries = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.entry.v1.Entry/ListEntries", entry_pb2.ListEntriesRequest, entry_pb2.ListEntriesResponse
        )
        self.GetEntry = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.entry.v1.Entry/GetEntry", entry_pb2.GetEntryRequest, types_pb2.Entry
        )
        self.BatchCreateEntry = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.entry.v1.Entry/BatchCreateEntry", entry_pb2.BatchCreateEntryRequest, entry_pb2.BatchCreateEntryResponse
        )
        self.BatchUpdateEntry = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.entry.v1.Entry/BatchUpdateEntry", entry_pb2.BatchUpdateEntryRequest, entry_pb2.BatchUpdateEntryResponse
        )
        self.BatchDeleteEntry = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.entry.v1.Entry/BatchDeleteEntry", entry_pb2.BatchDeleteEntryRequest, entry_pb2.BatchDeleteEntryResponse
        )
        self.GetAuthorizedEntries = grpclib.client.UnaryUnaryMethod(
            channel, "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries", entry_pb2.GetAuthorizedEntriesRequest, entry_pb2.GetAuthorizedEntriesResponse
        )
        self.SyncAuthorizedEntries = grpclib.client.StreamStreamMethod(
            channel, "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries", entry_pb2.SyncAuthorizedEntriesRequest, entry_pb2.SyncAuthorizedEntriesResponse
        )
