"""The agent's settings: SPIRE's agent.conf in, one checked frozen value out."""

from icp_agent.config.load import load_config
from icp_agent.config.settings import AgentConfig, HealthListenerSettings, LogSettings

__all__ = ["AgentConfig", "HealthListenerSettings", "LogSettings", "load_config"]
