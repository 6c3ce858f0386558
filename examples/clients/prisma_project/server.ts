import { createServer } from "node:http";
import { PrismaClient } from "./generated/client.js";
import { tenantAdapter, withTenant } from "./prisma.js";

const prisma = new PrismaClient({ adapter: tenantAdapter({ max: 10 }) });

createServer(async (request, response) => {
  const slug = (request.headers.host ?? "").split(".")[0]!.toLowerCase();
  try {
    const customers = await withTenant(prisma, slug, (tx) => tx.customer.findMany({ select: { email: true } }));
    response.end(JSON.stringify({ customers: customers.map((customer) => customer.email) }));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
}).listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
