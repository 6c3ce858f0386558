import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.List;
import java.util.ArrayList;
import javax.sql.DataSource;
import org.postgresql.ds.PGSimpleDataSource;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.DataSourceTransactionManager;

/** The specification for JDBC and Spring, shortened: started by tests/clients/main.rs. */
public final class Spec {
    static int passed;
    static int failed;

    interface Work {
        void run() throws Exception;
    }

    static void check(String name, Work work) {
        try {
            work.run();
            passed++;
            System.out.println("ok " + name);
        } catch (Throwable error) {
            failed++;
            System.out.println("FAILED " + name + ": " + error);
        }
    }

    static void fails(String code, Work work) throws Exception {
        try {
            work.run();
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (cause instanceof SQLException && ((SQLException) cause).getSQLState().equals(code)) {
                    return;
                }
            }
            throw new AssertionError("expected " + code, error);
        }
        throw new AssertionError("expected " + code + ", got no error");
    }

    static String tag(Connection connection, String... statements) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (String sql : statements) {
                statement.execute(sql);
            }
            ResultSet rows = statement.executeQuery("select tag from marks where n = 0");
            rows.next();
            return rows.getString(1);
        }
    }

    static void equal(Object found, Object expected) {
        if (!found.equals(expected)) {
            throw new AssertionError("expected " + expected + ", got " + found);
        }
    }

    public static void main(String[] arguments) throws Exception {
        PGSimpleDataSource source = new PGSimpleDataSource();
        source.setServerNames(new String[] {System.getenv("PGHOST")});
        source.setPortNumbers(new int[] {Integer.parseInt(System.getenv("PGPORT"))});
        source.setUser(System.getenv("PGUSER"));
        source.setPassword(System.getenv("PGPASSWORD"));
        source.setDatabaseName(System.getenv("PGDATABASE"));
        source.setPrepareThreshold(0);
        Tenants tenants = new Tenants(source);
        JdbcTemplate jdbc = new JdbcTemplate(source);
        SpringTenants spring = new SpringTenants(jdbc, new DataSourceTransactionManager(source));
        check("two statements and a commit", () -> equal(
            tenants.with("acme", c -> tag(c, "insert into marks (tag, n) values ('own', 1)")), "acme"));
        check("the other tenant's table", () ->
            fails("42501", () -> tenants.with("acme", c -> tag(c, "select * from tenant_globex.marks"))));
        check("a transaction that left its tenant", () -> fails("TN501", () ->
            tenants.with("acme", c -> c.createStatement().execute("reset role"))));
        check("another tenant inside", () ->
            fails("TN405", () -> tenants.with("acme", c -> tag(c, "select public.cgk_enter('globex')"))));
        String[][] codes = {{"nope", "TN401"}, {"sleepy", "TN402"}, {"newcomer", "TN403"}};
        for (String[] pair : codes) {
            check(pair[1], () -> fails(pair[1], () -> tenants.with(pair[0], c -> tag(c))));
            check("Spring, " + pair[1], () -> fails(pair[1], () -> spring.with(pair[0], () -> "")));
        }
        check("Spring: the tenant's rows, and no other tenant's table", () -> {
            String sql = "select tag from marks where n = 0";
            equal(spring.with("acme", () -> jdbc.queryForObject(sql, String.class)), "acme");
            equal(spring.with("globex", () -> jdbc.queryForObject(sql, String.class)), "globex");
            fails("42501", () -> spring.with("acme", () -> jdbc.queryForList("select * from tenant_globex.marks")));
            fails("TN501", () -> spring.with("acme", () -> { jdbc.execute("reset role"); return ""; }));
            fails("42P01", () -> jdbc.queryForList("select * from marks"));
        });
        int count = Integer.parseInt(System.getenv("CGK_CLIENT_ALTERNATIONS"));
        check(count + " alternating transactions on 8 connections", () -> {
            ExecutorService pool = Executors.newFixedThreadPool(8);
            List<Future<Void>> futures = new ArrayList<>();
            for (int worker = 0; worker < 8; worker++) {
                int first = worker;
                futures.add(pool.submit((Callable<Void>) () -> {
                    for (int i = first; i < count; i += 8) {
                        String slug = (i + i / 8) % 2 == 0 ? "acme" : "globex";
                        equal(tenants.with(slug, c -> tag(c)), slug);
                    }
                    return null;
                }));
            }
            for (Future<Void> future : futures) {
                future.get();
            }
            pool.shutdown();
        });
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed > 0 ? 1 : 0);
    }
}
