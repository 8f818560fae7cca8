"""A Cinder volume driver for machines without device mapper: volumes are sparse files.

What a client is told and gets is Cinder's own: targets, CHAP accounts and connection info are made by its tgt code, as for its
LVM driver.
"""
import os

from oslo_config import cfg
from oslo_utils import importutils, units

from cinder import interface
from cinder.volume import configuration, driver

OPTIONS = [cfg.StrOpt('file_folder', help='Folder of the volumes')]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


@interface.volumedriver
class FileDriver(driver.VolumeDriver):
    VERSION = '1.0'
    CI_WIKI_NAME = 'none'

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.configuration.append_config_values(OPTIONS)
        self.folder = self.configuration.file_folder
        self.target_driver = importutils.import_object(
            'cinder.volume.targets.tgt.TgtAdm', configuration=self.configuration, executor=self._execute)

    def check_for_setup_error(self):
        if not os.path.isdir(self.folder):
            raise RuntimeError(f'there is no folder {self.folder}')

    def path(self, volume):
        return os.path.join(self.folder, volume['name'])

    def create_volume(self, volume):
        with open(self.path(volume), 'xb') as file:
            file.truncate(volume['size'] * units.Gi)

    def delete_volume(self, volume):
        os.unlink(self.path(volume))

    def extend_volume(self, volume, new_size):
        os.truncate(self.path(volume), new_size * units.Gi)
        self.target_driver.extend_target(volume)

    def create_export(self, context, volume, connector):
        export = self.target_driver.create_export(context, volume, self.path(volume))
        return {'provider_location': export['location'], 'provider_auth': export['auth']}

    def ensure_export(self, context, volume):
        self.target_driver.ensure_export(context, volume, self.path(volume))

    def remove_export(self, context, volume):
        self.target_driver.remove_export(context, volume)

    def initialize_connection(self, volume, connector):
        return self.target_driver.initialize_connection(volume, connector)

    def terminate_connection(self, volume, connector, **named):
        self.target_driver.terminate_connection(volume, connector, **named)

    def validate_connector(self, connector):
        return self.target_driver.validate_connector(connector)

    def _update_volume_stats(self):
        self._stats = {
            'volume_backend_name': self.configuration.safe_get('volume_backend_name'),
            'vendor_name': 'Bowline', 'driver_version': self.VERSION, 'storage_protocol': 'iSCSI',
            'total_capacity_gb': 100, 'free_capacity_gb': 100, 'reserved_percentage': 0,
        }
