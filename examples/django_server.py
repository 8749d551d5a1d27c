"""Serve Django over mutual TLS, in one file: python django_server.py PORT TRUST_DOMAIN."""

import asyncio
import sys

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path

from authsec_sdk.authz import authorize_member_of, authorize_path
from authsec_sdk.integrations.django import authorize_peer
from authsec_sdk.integrations.uvicorn import serve
from authsec_sdk.workloadapi import X509Source

DOMAIN = sys.argv[2]


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"hello {request.spiffe_peer}\n")


@authorize_peer(authorize_path(f"spiffe://{DOMAIN}/admin/*"))
async def admin(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"at your service, {request.spiffe_peer}\n")


urlpatterns = [path("", hello), path("admin/x", admin)]

settings.configure(
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["authsec_sdk.integrations.django.SpiffeConfig"],
    MIDDLEWARE=["authsec_sdk.integrations.django.SpiffeMiddleware"],
    ROOT_URLCONF=__name__,
    SPIFFE_AUTHORIZER=authorize_member_of(DOMAIN),
)


async def main(port: int) -> None:
    django.setup()
    async with X509Source() as source:
        await source.ready(timeout=10)
        await serve(ASGIHandler(), source, authorize_member_of(DOMAIN), port=port, lifespan="off")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
