"""The server's configuration: SPIRE's `server.conf` and flags, read into one frozen value."""

from icp_server.config.load import Overrides, load_config
from icp_server.config.model import ServerConfig

__all__ = ["Overrides", "ServerConfig", "load_config"]
