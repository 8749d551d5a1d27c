"""The flags that describe or choose registration entries."""

from __future__ import annotations

from authsec_sdk.proto.spire import entry_pb2, types_pb2
from icp_common.flags import FlagSet
from icp_server.cli.api import CommandError
from icp_server.cli.ids import id_message, match_number, selector_messages
from icp_server.cli.numbers import int32

SERVER_PATH = "/spire/server"
_MATCH_OPTIONS = "Options: exact, any, superset and subset"


class EntryFlags:
    """The flags of `create` and `update` that describe one entry."""

    def __init__(self, flags: FlagSet, *, updates: bool) -> None:
        self._updates = updates
        self.entry_id = flags.string(
            "entryID",
            "The Registration Entry ID of the record to update"
            if updates
            else "A custom ID for this registration entry (optional). If not set, a new entry ID will be generated",
        )
        self.spiffe_id = flags.string("spiffeID", "The SPIFFE ID that this record represents")
        self.parent_id = flags.string("parentID", "The SPIFFE ID of this record's parent")
        self.node = (
            None
            if updates
            else flags.boolean("node", "If set, this entry will be applied to matching nodes rather than workloads")
        )
        self.selectors = flags.strings("selector", "A colon-delimited type:value selector. Can be used more than once")
        self.federates_with = flags.strings(
            "federatesWith", "SPIFFE ID of a trust domain to federate with. Can be used more than once"
        )
        self.dns_names = flags.strings(
            "dns",
            "A DNS name that will be included in SVIDs issued based on this entry, where appropriate. "
            "Can be used more than once",
        )
        self.x509_svid_ttl = flags.integer(
            "x509SVIDTTL", "The lifetime, in seconds, for x509-SVIDs issued based on this registration entry."
        )
        self.jwt_svid_ttl = flags.integer(
            "jwtSVIDTTL", "The lifetime, in seconds, for JWT-SVIDs issued based on this registration entry."
        )
        self.expiry = flags.integer(
            "entryExpiry", "An expiry, from epoch in seconds, for the resulting registration entry to be pruned"
        )
        self.hint = flags.string("hint", "The entry hint, used to disambiguate entries with the same SPIFFE ID")
        self.admin = flags.boolean(
            "admin",
            "If set, the SPIFFE ID in this entry will be granted access to the SPIRE Server's management APIs",
        )
        self.downstream = flags.boolean(
            "downstream",
            "A boolean value that, when set, indicates that the entry describes a downstream SPIRE server",
        )
        self.store_svid = flags.boolean(
            "storeSVID",
            "A boolean value that, when set, indicates that the resulting issued SVID from this entry must be stored "
            "through an SVIDStore plugin",
        )
        self.no_prefetch = flags.boolean(
            "disableX509SVIDPrefetch",
            "A boolean value that, when set, disables prefetching X509 SVID for this entry",
        )
        self.include_jti = flags.boolean(
            "jwtSVIDIncludeJTI",
            "A boolean value that, when set, includes a unique 'jti' claim in JWT-SVIDs issued for this entry",
        )

    def entry(self) -> types_pb2.Entry:
        """Build the entry the flags describe.

        Raises:
            CommandError: something needed is missing or out of range.
            InvalidSpiffeIDError: an ID is none.
            InvalidSelectorError: a selector is none.
        """
        self._check()
        spiffe_id = id_message(self.spiffe_id.value)
        if self.node is not None and self.node.value:
            parent_id = types_pb2.SPIFFEID(trust_domain=spiffe_id.trust_domain, path=SERVER_PATH)
        else:
            parent_id = id_message(self.parent_id.value)
        entry = types_pb2.Entry(
            id=self.entry_id.value,
            spiffe_id=spiffe_id,
            parent_id=parent_id,
            selectors=selector_messages(self.selectors.value),
            x509_svid_ttl=int32(self.x509_svid_ttl.value, "X509 SVID TTL"),
            jwt_svid_ttl=int32(self.jwt_svid_ttl.value, "JWT SVID TTL"),
            federates_with=self.federates_with.value,
            admin=self.admin.value,
            downstream=self.downstream.value,
            expires_at=self.expiry.value,
            dns_names=self.dns_names.value,
            store_svid=self.store_svid.value,
            hint=self.hint.value,
        )
        if self.names_attributes:
            entry.additional_attributes.disable_x509_svid_prefetch = self.no_prefetch.value
            entry.additional_attributes.jwt_svid_include_jti = self.include_jti.value
        return entry

    @property
    def names_attributes(self) -> bool:
        """Say whether one of the additional attributes was given."""
        return self.no_prefetch.given or self.include_jti.given

    def keep_other_attributes(self, entry: types_pb2.Entry, existing: types_pb2.Entry) -> None:
        """Put the attributes that were not given back as they are: the message has no mask for them one by one."""
        if not self.no_prefetch.given:
            before = existing.additional_attributes.disable_x509_svid_prefetch
            entry.additional_attributes.disable_x509_svid_prefetch = before
        if not self.include_jti.given:
            entry.additional_attributes.jwt_svid_include_jti = existing.additional_attributes.jwt_svid_include_jti

    def _check(self) -> None:
        is_node = self.node is not None and self.node.value
        if self._updates and not self.entry_id.value:
            raise CommandError("entry ID is required")
        if not self.selectors.value:
            raise CommandError("at least one selector is required")
        if is_node and self.federates_with.value:
            raise CommandError("node entries can not federate")
        if not self.parent_id.value and not is_node:
            raise CommandError(
                "a parent ID is required" if self._updates else "a parent ID is required if the node flag is not set"
            )
        if not self.spiffe_id.value:
            raise CommandError("a SPIFFE ID is required")
        if self.x509_svid_ttl.value < 0:
            raise CommandError("a positive x509-SVID TTL is required")
        if self.jwt_svid_ttl.value < 0:
            raise CommandError("a positive JWT-SVID TTL is required")


class FilterFlags:
    """The flags of `show` and `count` that choose entries."""

    def __init__(self, flags: FlagSet, verb: str) -> None:
        self.parent_id = flags.string("parentID", f"The Parent ID of the records to {verb}")
        self.spiffe_id = flags.string("spiffeID", f"The SPIFFE ID of the records to {verb}")
        self.downstream = flags.boolean(
            "downstream",
            "A boolean value that, when set, indicates that the entry describes a downstream SPIRE server",
        )
        self.selectors = flags.strings("selector", "A colon-delimited type:value selector. Can be used more than once")
        self.match_selectors = flags.string(
            "matchSelectorsOn", f"The match mode used when filtering by selectors. {_MATCH_OPTIONS}", "superset"
        )
        self.federates_with = flags.strings(
            "federatesWith", "SPIFFE ID of a trust domain an entry is federate with. Can be used more than once"
        )
        self.match_federates_with = flags.string(
            "matchFederatesWithOn",
            f"The match mode used when filtering by federates with. {_MATCH_OPTIONS}",
            "superset",
        )
        self.hint = flags.string("hint", f"The Hint of the records to {verb} (optional)")

    def fill(self, filter_: entry_pb2.ListEntriesRequest.Filter | entry_pb2.CountEntriesRequest.Filter) -> None:
        """Write what was chosen into the message; `by_downstream=false` is always sent and filters nothing.

        Raises:
            CommandError: a way of matching is none.
            InvalidSpiffeIDError: an ID is none.
            InvalidSelectorError: a selector is none.
        """
        if self.parent_id.value:
            filter_.by_parent_id.CopyFrom(id_message(self.parent_id.value))
        if self.spiffe_id.value:
            filter_.by_spiffe_id.CopyFrom(id_message(self.spiffe_id.value))
        if self.selectors.value:
            filter_.by_selectors.match = match_number(self.match_selectors.value)  # type: ignore[assignment]
            filter_.by_selectors.selectors.extend(selector_messages(self.selectors.value))
        if self.federates_with.value:
            filter_.by_federates_with.match = match_number(self.match_federates_with.value)  # type: ignore[assignment]
            filter_.by_federates_with.trust_domains.extend(self.federates_with.value)
        if self.hint.value:
            filter_.by_hint.value = self.hint.value
        filter_.by_downstream.value = self.downstream.value
