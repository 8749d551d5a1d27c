"""``authsec fetch bundles``: whom this process can verify, as its agent says; or what a federation endpoint serves."""

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path

from authsec_sdk.cli.files import write_files
from authsec_sdk.cli.output import Facts, bundle_facts, show
from authsec_sdk.cli.sidecar.contents import FileContent
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import BundleSet, TrustBundle, TrustDomain, format_bundle_document, format_bundle_map
from authsec_sdk.workloadapi import WorkloadAPIClient

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this kind."""
    parser.add_argument("--kind", choices=("x509", "jwt", "wit"), help="of the agent's (default x509)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a bundle map; PEM where it ends in .pem")
    parser.add_argument("--trust-domain", metavar="NAME", help="of which alone")
    endpoint = parser.add_argument_group("a federation endpoint instead of an agent (needs --trust-domain)")
    endpoint.add_argument("--url", help="where it is: https://...")
    endpoint.add_argument("--endpoint-id", metavar="ID", help="the profile https_spiffe: who must be serving it")
    endpoint.add_argument("--endpoint-bundle", type=Path, metavar="FILE", help="what proves that server")
    endpoint.add_argument("--ca-file", type=Path, metavar="FILE", help="https_web: these authorities, not the system's")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Fetch, write where asked, and show."""
    parser: argparse.ArgumentParser = options.parser
    if options.url is not None:
        if options.trust_domain is None:
            parser.error("whose bundle is at --url? Give --trust-domain: a bundle document does not say")
        if options.kind is not None:
            parser.error("--kind is for an agent's bundles; a document has all kinds")
        if (options.endpoint_id is None) != (options.endpoint_bundle is None):
            parser.error("--endpoint-id and --endpoint-bundle go together")
        bundles = {TrustDomain.parse(options.trust_domain): _from_endpoint(options)}
    else:
        if options.endpoint_id or options.endpoint_bundle or options.ca_file:
            parser.error("--endpoint-id, --endpoint-bundle and --ca-file are for --url")
        bundles = asyncio.run(_from_agent(options))
        if options.trust_domain is not None:
            wanted = TrustDomain.parse(options.trust_domain)
            if wanted not in bundles:
                raise CallerError(f"the agent has no bundle of {wanted}; it has {', '.join(map(str, sorted(bundles)))}")
            bundles = {wanted: bundles[wanted]}
    facts: Facts = {"bundles": [bundle_facts(bundles[domain]) for domain in sorted(bundles)]}
    if options.write is not None:
        content = FileContent(_document(options, bundles), 0o644)
        facts["written"] = write_files(options.write.parent, {options.write.name: content})
    show(facts, output=options.output)
    return 0


def _from_endpoint(options: argparse.Namespace) -> TrustBundle:
    from authsec_sdk.federation import BundleEndpoint, read_bundle_file, wait_bundle
    from authsec_sdk.spiffe import SpiffeID

    if options.endpoint_id is None:
        endpoint = BundleEndpoint.web(options.trust_domain, options.url, ca_file=options.ca_file)
    else:
        server = SpiffeID.parse(options.endpoint_id)
        proof = read_bundle_file(server.trust_domain, options.endpoint_bundle)
        endpoint = BundleEndpoint.spiffe(options.trust_domain, options.url, server, bundle=proof)
    return wait_bundle(endpoint, timeout=options.timeout)


async def _from_agent(options: argparse.Namespace) -> dict[TrustDomain, TrustBundle]:
    async with WorkloadAPIClient(options.socket) as client:
        if options.kind == "jwt":
            jwt = await client.fetch_jwt_bundles(timeout=options.timeout)
            return {domain: TrustBundle(domain, (), jwt[domain].authorities) for domain in jwt}
        if options.kind == "wit":
            wit = await client.fetch_wit_bundles(timeout=options.timeout)
            return {domain: TrustBundle(domain, (), {}, wit[domain].authorities) for domain in wit}
        x509 = await client.fetch_x509_bundles(timeout=options.timeout)
        return {domain: TrustBundle(domain, x509[domain].authorities) for domain in x509}


def _document(options: argparse.Namespace, bundles: Mapping[TrustDomain, TrustBundle]) -> bytes:
    if options.write.suffix == ".pem":
        if len(bundles) != 1:
            raise CallerError("PEM does not say whose an authority is: name one with --trust-domain, or write .json")
        [bundle] = bundles.values()
        return bundle.x509_bundle().to_pem()
    if options.url is not None:
        [bundle] = bundles.values()
        return format_bundle_document(bundle)
    return format_bundle_map(BundleSet(bundles.values()))
