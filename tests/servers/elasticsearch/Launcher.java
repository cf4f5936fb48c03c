// Starts one Elasticsearch node from a home folder that build.py made: the jars of Maven Central come without a start script.
// Run as source, on the module path (on the class path the plugin loader fails):
//   java -p HOME/lib --add-modules ALL-MODULE-PATH,jdk.net Launcher.java HOME setting=value ...
// Ends with the process; closes the node on SIGTERM, so that what was written is on the disk.

import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

public class Launcher {
    public static void main(String[] arguments) throws Exception {
        Settings.Builder told = Settings.builder().put("path.home", arguments[0]);
        for (int at = 1; at < arguments.length; at++) {
            String[] pair = arguments[at].split("=", 2);
            told.put(pair[0], pair[1]);
        }
        Settings settings = told.build();
        System.setProperty("es.logs.base_path", settings.get("path.logs"));
        LogConfigurator.configureESLogging();
        LogConfigurator.configureWithoutConfig(settings);
        Environment environment = InternalSettingsPreparer.prepareEnvironment(
            settings, Map.of(), Path.of(arguments[0], "config"), () -> "tests");
        PluginsLoader loader = PluginsLoader.createPluginsLoader(
            PluginsLoader.loadModulesBundles(environment.modulesDir()),
            PluginsLoader.loadPluginsBundles(environment.pluginsDir()), Map.of());
        Node node = new Node(environment, loader);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception failed) {
                failed.printStackTrace();
            }
        }));
        node.start();
        new CountDownLatch(1).await();
    }
}
